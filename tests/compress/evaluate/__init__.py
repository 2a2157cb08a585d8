"""Tests of `miaotui.compress.evaluate`."""
