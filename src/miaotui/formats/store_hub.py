"""Models of the Hugging Face hub, through its own client (imported only when such a name is used)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miaotui.errors import DownloadError, MiaotuiError, ModelNotFoundError
from miaotui.formats.store_files import require_space
from miaotui.formats.store_names import HubModel, is_safe_segment
from miaotui.formats.store_progress import Progress, shown_download
from miaotui.formats.store_transfer import HubFile, fetch_file

_FOLDER_FILES = (
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "vocab.txt",  # this and the following: of text encoders
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
_PREFERRED = ("q4_k_m", "q4_0", "q8_0")  # of a repository's GGUF files, when none is named


@dataclass(frozen=True, slots=True)
class HubFetch:
    """What was fetched: `file` is the GGUF file's path in the repository, or empty for a whole folder."""

    file: str
    paths: tuple[str, ...]
    revision: str


def fetch_hub(model: HubModel, workspace: Path, progress: Progress | None) -> HubFetch:
    """Fetch a repository's model into `workspace`, continuing a large file that an earlier try began there.

    Raises:
        DownloadError: no client, no network, no access, no space or damaged files.
        ModelNotFoundError: the hub has no such repository or file, or no model in it.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise DownloadError(
            f"{model.name} needs the package huggingface-hub; install it with: pip install 'miaotui[hub]'"
        ) from None
    try:
        hub = HfApi()
        info = hub.model_info(model.repo_id, files_metadata=True)
        revision = str(info.sha)
        files = choose_files(model, [_announced(sibling) for sibling in info.siblings or ()])
        total_bytes = sum(file.size_bytes for file in files)
        require_space(workspace, total_bytes, model.name)
        with shown_download(model.name, total_bytes, workspace, progress):
            for file in files:
                fetch_file(hub, model.repo_id, file, revision, workspace / file.path)
    except MiaotuiError:
        raise
    except Exception as error:  # the client's transport errors have no common type
        raise _translated(model, error) from error
    single = files[0].path if files[0].path.endswith(".gguf") else ""
    return HubFetch(single, tuple(file.path for file in files), revision)


def choose_files(model: HubModel, files: Sequence[HubFile]) -> list[HubFile]:
    """The files that make up the model: the named GGUF file, else the safetensors folder, else the best GGUF file.

    Raises:
        ModelNotFoundError: nothing fits; the message lists what is there.
    """
    ggufs = [file for file in files if file.path.endswith(".gguf") and all(map(is_safe_segment, file.path.split("/")))]
    listing = ", ".join(sorted(file.path for file in ggufs)[:20])
    if model.file:
        named = [file for file in ggufs if file.path == model.file]
        if not named:
            raise ModelNotFoundError(f"{model.repo_id} has no file {model.file}; its GGUF files: {listing or 'none'}")
        return named
    folder = [file for file in files if _belongs_to_folder(file.path)]
    if any(file.path.endswith(".safetensors") for file in folder) and any(f.path == "config.json" for f in folder):
        return folder
    for kind in _PREFERRED:
        of_kind = [file for file in ggufs if kind in file.path.lower()]
        if len(of_kind) == 1:
            return of_kind
    if len(ggufs) == 1:
        return ggufs
    if ggufs:
        raise ModelNotFoundError(f"{model.repo_id} has several GGUF files; name one: {model.name}:FILE of {listing}")
    raise ModelNotFoundError(f"{model.repo_id} has neither a GGUF file nor config.json with safetensors")


def _belongs_to_folder(path: str) -> bool:
    known = path.endswith(".safetensors") or path.startswith("tokenizer")
    return path in _FOLDER_FILES or (known and is_safe_segment(path))


def _announced(sibling: Any) -> HubFile:
    return HubFile(str(sibling.rfilename), int(sibling.size or 0), sibling.lfs.sha256 if sibling.lfs else None)


def _translated(model: HubModel, error: Exception) -> MiaotuiError:
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return DownloadError(
            f"{model.repo_id} asks for its terms to be accepted: do that on its page, then run `hf auth login`"
        )
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError", "EntryNotFoundError"):
        return ModelNotFoundError(
            f"the hub has no public model {model.repo_id}; check the spelling, or run `hf auth login` if it is private"
        )
    first_line = (str(error).strip().splitlines() or [kind])[0][:300]
    return DownloadError(
        f"cannot fetch {model.name}: {kind}: {first_line}; check the network (and HF_ENDPOINT, proxy), "
        "or give the path of a GGUF file instead of a name"
    )
