"""Fetches one file of the hub, continuing what an earlier process began.

The hub client's address, session, credentials and errors are used, but not its download function: that one begins a
file anew when its process was interrupted, and these files are large.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.errors import DownloadError
from miaotui.formats.store_files import digest_file, require_digest

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub announces it; small files have no sha256."""

    path: str
    size_bytes: int
    sha256: str | None


def fetch_file(hub: HfApi, repo_id: str, file: HubFile, revision: str, target: Path) -> None:
    """Fetch a file to `target`, which appears when it is complete and checked; until then it grows as `target`.part.

    Raises:
        DownloadError: the file is not as announced; what was fetched of it is deleted.
        Exception: the client's and its transport's own errors, once no more bytes arrive.
    """
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    if file.sha256 is None:
        part.unlink(missing_ok=True)  # nothing could tell that its two halves are of different versions
    part.touch()
    while True:
        before_bytes = part.stat().st_size
        if before_bytes >= file.size_bytes:
            break
        try:
            _append_rest(hub, repo_id, file, revision, part)
        except Exception:  # transport errors have no common type; a transfer that got further is tried again
            if part.stat().st_size <= before_bytes:
                raise
        if part.stat().st_size <= before_bytes:
            raise DownloadError(f"{repo_id} ended {file.path} early; try again")
    _require_announced(repo_id, file, part)
    part.rename(target)


def _append_rest(hub: HfApi, repo_id: str, file: HubFile, revision: str, part: Path) -> None:
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    url = hf_hub_url(repo_id, file.path, revision=revision, endpoint=hub.endpoint)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start_bytes := part.stat().st_size:
        headers["Range"] = f"bytes={start_bytes}-"
    with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
        hf_raise_for_status(response)
        with part.open("ab" if response.status_code == 206 else "wb") as out:
            for chunk in response.iter_bytes():
                out.write(chunk)
                if out.tell() > file.size_bytes:  # an endless answer must not fill the disk
                    return


def _require_announced(repo_id: str, file: HubFile, part: Path) -> None:
    try:
        if part.stat().st_size != file.size_bytes:
            raise DownloadError(f"{file.path} of {repo_id} is longer than announced; try again")
        if file.sha256:
            require_digest(f"{repo_id}/{file.path}", digest_file(part), file.sha256)
    except DownloadError:
        part.unlink()
        raise
