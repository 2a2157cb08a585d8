"""Fixtures of the adaptive paths' tests."""

from engine.tiny_model import tiny_model

__all__ = ["tiny_model"]
