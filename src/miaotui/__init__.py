"""Language-model answers within a second on the CPU machine you already own.

Importing this package loads nothing heavy: each public name is fetched from its module at first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miaotui import errors as errors
    from miaotui.core import Receipt as Receipt
    from miaotui.core import SamplingParams as SamplingParams
    from miaotui.core import StructuredOutputs as StructuredOutputs
    from miaotui.engine.async_embedder import AsyncEmbedder as AsyncEmbedder
    from miaotui.engine.async_llm import AsyncLLM as AsyncLLM
    from miaotui.engine.embedder import Embedder as Embedder
    from miaotui.engine.llm import LLM as LLM
    from miaotui.engine.llm import Completion as Completion

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "AsyncEmbedder",
    "AsyncLLM",
    "Completion",
    "Embedder",
    "Receipt",
    "SamplingParams",
    "StructuredOutputs",
    "__version__",
    "errors",
]

_HOMES = {
    "LLM": "miaotui.engine.llm",
    "AsyncEmbedder": "miaotui.engine.async_embedder",
    "AsyncLLM": "miaotui.engine.async_llm",
    "Completion": "miaotui.engine.llm",
    "Embedder": "miaotui.engine.embedder",
    "Receipt": "miaotui.core",
    "SamplingParams": "miaotui.core",
    "StructuredOutputs": "miaotui.core",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("miaotui.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'miaotui' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
