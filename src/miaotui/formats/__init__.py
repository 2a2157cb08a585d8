"""Model files: GGUF and Hugging Face folders, their weights, specs, tokenizers and chat templates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from miaotui.errors import ModelFileError, ModelNotFoundError

if TYPE_CHECKING:  # NumPy takes longer to import than `miaotui --help` may take
    from miaotui.formats.spec import ModelSpec
    from miaotui.formats.weights import Weights

__all__ = ["ModelFile", "open_model"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """An opened model: nothing of its weights has been read yet.

    `metadata` holds a GGUF file's key/values: Python numbers, booleans and strings; read-only NumPy arrays; string
    arrays as `gguf_values.StringArray` (decoded when used); it is empty for Hugging Face folders.
    """

    path: Path
    spec: ModelSpec
    weights: Weights
    metadata: Mapping[str, object]


def open_model(path: str | os.PathLike[str]) -> ModelFile:
    """Opens a GGUF file or a Hugging Face folder (config.json and safetensors).

    Raises ModelNotFoundError when there is nothing at `path`, ModelFileError when it is damaged or no model,
    UnsupportedModelError when its architecture, element types or features are not supported; messages say which.
    """
    where = Path(path)
    if not _exists(where):
        raise ModelNotFoundError(
            f"{str(where)!r}: no such file or folder; check the path, or `miaotui pull` the model."
        )
    if where.is_dir():
        from miaotui.formats.hf import read_model_folder

        spec, weights = read_model_folder(where)
        return ModelFile(where, spec, weights, MappingProxyType({}))
    if where.suffix == ".safetensors":
        raise ModelFileError(f"{where}: give the folder that also holds its config.json, i.e. {where.parent}.")
    from miaotui.formats.gguf import read_gguf
    from miaotui.formats.spec_gguf import spec_from_gguf

    file = read_gguf(where)
    return ModelFile(where, spec_from_gguf(file), file.weights, file.metadata)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, unreadable, or with a NUL
        return False
