"""Tests of `miaotui.compress.compare`."""
