"""Hugging Face model folders: `config.json` beside (sharded) safetensors."""

from __future__ import annotations

from pathlib import Path

from miaotui.errors import ModelNotFoundError
from miaotui.formats.json_file import read_json_object
from miaotui.formats.safetensors import inside, read_folder
from miaotui.formats.spec import ModelSpec
from miaotui.formats.spec_config import spec_from_config
from miaotui.formats.spec_encoder import as_in_folder
from miaotui.formats.weights import Weights

CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 1 << 20


def read_model_folder(folder: Path) -> tuple[ModelSpec, Weights]:
    """Spec and weights of a folder.

    Raises ModelNotFoundError when files are missing, ModelFileError when one is damaged, UnsupportedModelError for a
    model type, feature or element type that miaotui lacks.
    """
    if not (folder / CONFIG_FILE).exists():
        ggufs = sorted(path.name for path in folder.glob("*.gguf"))
        hint = f"give the file, e.g. {folder / ggufs[0]}" if ggufs else "give a GGUF file or a Hugging Face folder"
        raise ModelNotFoundError(f"{folder}: holds no {CONFIG_FILE}; {hint}.")
    config = inside(folder, CONFIG_FILE)
    spec = spec_from_config(read_json_object(config, MAX_CONFIG_BYTES), source=str(config), name=folder.resolve().name)
    if spec.is_encoder:
        spec = as_in_folder(spec, folder)
    return spec, read_folder(folder)
