"""Fixtures of the command line's tests."""

from engine.tiny_bert import tiny_bert
from engine.tiny_model import tiny_model

__all__ = ["tiny_bert", "tiny_model"]
