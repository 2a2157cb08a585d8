"""Collects what a model's linears are fed while it reads some text, and keeps it in files."""

from __future__ import annotations

from miaotui.compress.calibrate.collect import CollectOptions, collect

__all__ = ["CollectOptions", "collect"]
