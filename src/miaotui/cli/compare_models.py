"""The models of `miaotui compare`: opened with `LLM`, all at once where the memory allows it, else one by one."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

from miaotui.cli.load_probe import probe
from miaotui.cli.parsing import open_llm
from miaotui.compress.compare.candidate import Scored, Written
from miaotui.compress.compare.document import Facts, Start
from miaotui.compress.compare.quality import ROWS
from miaotui.config import Config
from miaotui.core import ACTIVATIONS
from miaotui.engine.kv_memory import available_memory_bytes
from miaotui.engine.llm import LLM
from miaotui.engine.loading import KV_DTYPES, find_model
from miaotui.errors import ConfigError, UnsupportedModelError, brief
from miaotui.formats import ModelFile
from miaotui.formats.tokenizer import Tokenizer

SETTINGS = {"kv-dtype": ("kv_dtype", KV_DTYPES), "activations": ("activations", ACTIVATIONS)}
"""What may stand behind a model's name: `Config`'s name for it, and its values."""
SPARE_BYTES = 512 << 20
"""Beside the weights: logits, KV pages that are in use, the arena."""
SHARE = 0.7
"""Of the memory that is available, what all models together may take to stay open."""
STARTS = 3


class Entrant:
    """One model of the comparison, as `Candidate` wants it; `close` when done."""

    def __init__(self, model: str, config: Config, settings: Mapping[str, str], *, plain: bool) -> None:
        self.name = model
        self.settings = dict(settings)
        self.keeps_open = False
        chosen: dict[str, Any] = {SETTINGS[key][0]: value for key, value in settings.items()}
        self._config = replace(config, model=model, **chosen)
        self._plain = plain
        self._llm: LLM | None = None
        self.file: ModelFile = find_model(model)
        if self.file.spec.is_encoder:
            raise UnsupportedModelError(f"{model} makes vectors and writes no text, so there is nothing to compare.")
        self._tokenizer = Tokenizer.from_model(self.file)

    @cached_property
    def vocabulary(self) -> str:
        """See `Candidate.vocabulary`: a digest of what every id stands for."""
        digest = hashlib.sha256()
        for id in range(self.vocab_size):
            token = self._tokenizer.token_bytes(id)
            digest.update(len(token).to_bytes(4, "little") + token)
        return digest.hexdigest()

    @property
    def vocab_size(self) -> int:
        """See `Candidate.vocab_size`."""
        return self.file.spec.vocab_size

    @property
    def bos_id(self) -> int | None:
        """See `Candidate.bos_id`."""
        return self._tokenizer.bos_id if self._tokenizer.add_bos else None

    def token_bytes(self, id: int) -> bytes:
        """See `Candidate.token_bytes`."""
        return self._tokenizer.token_bytes(id)

    def encode(self, text: str) -> list[int]:
        """See `Candidate.encode`."""
        return self._tokenizer.encode(text, add_special=True)

    @contextmanager
    def open(self) -> Iterator[Opened]:
        """See `Candidate.open`."""
        llm = self._llm or open_llm(self._config, max_logit_rows=ROWS, prefix_cache_bytes=0, drafter=None)
        if self.keeps_open:
            self._llm = llm
        try:
            yield Opened(llm, plain=self._plain)
        finally:
            if not self.keeps_open:
                llm.close()

    def close(self) -> None:
        """Give the memory back."""
        if self._llm is not None:
            self._llm.close()
            self._llm = None

    def facts(self) -> Facts:
        """What the file tells."""
        weights = self.file.weights
        types: Counter[str] = Counter()
        for tensor in weights.values():
            types[tensor.type.name] += tensor.num_weights
        return Facts(
            name=self.name,
            path=str(self.file.path),
            num_bytes=weights.file_bytes,
            num_weights=sum(types.values()),
            types=dict(types.most_common()),
            architecture=self.file.spec.architecture,
            settings=self.settings,
        )

    def start(self) -> Start:
        """Of fresh processes, the median; one before them packs and tunes, where that was not done already."""
        names = ("activations", "kv_dtype", "context_length", "kv_memory_bytes", "pack_cache_bytes")
        settings = {"model": str(self.file.path)} | {name: getattr(self._config, name) for name in names}
        probe(settings)
        runs = sorted(probe(settings) for _ in range(STARTS))
        return Start(runs[STARTS // 2][0], max(memory for _, memory in runs))


class Opened:
    """An `LLM` as `OpenModel` wants it."""

    def __init__(self, llm: LLM, *, plain: bool) -> None:
        self._llm = llm
        self._plain = plain or llm.chat_template is None

    def encode(self, text: str, *, special: bool) -> list[int]:
        """See `OpenModel.encode`. Raises ContextLengthError before a text is encoded that cannot fit."""
        self._llm.check_length(text)
        return self._llm.tokenizer.encode(text, add_special=special)

    def ask(self, question: str) -> list[int]:
        """See `OpenModel.ask`."""
        return self.encode(question, special=True) if self._plain else self._llm.encode_chat(question)

    def logits(self, ids: Sequence[int], first: int) -> Any:
        """See `OpenModel.logits`."""
        return self._llm.logits(ids, first=first)

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        """See `OpenModel.score`."""
        found = self._llm.score_all(pairs)
        return [Scored(one.total, len(one.token_ids), bool(one.is_greedy)) for one in found]

    def write(self, prompts: Sequence[Sequence[int]], *, most: int, seed: int | None = None) -> list[Written]:
        """See `OpenModel.write`."""
        temperature = 0.0 if seed is None else 1.0
        done = self._llm.generate(
            [list(ids) for ids in prompts], max_tokens=most, temperature=temperature, seed=seed, progress=False
        )
        eos = self._llm.tokenizer.eos_ids
        return [
            Written(one.text, tuple(id for id in one.token_ids if id not in eos), one.finish_reason == "stop")
            for one in done
        ]

    def read_s(self, num_tokens: int, turn: int) -> float:
        """See `OpenModel.read_s`."""
        return self._llm.generate(self._made_up(num_tokens, turn), max_tokens=1, temperature=0.0).receipt.prefill_s

    def token_s(self, num_tokens: int, turn: int) -> float:
        """See `OpenModel.token_s`."""
        prompt = self._made_up(16, turn)
        done = self._llm.generate(prompt, max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
        return done.receipt.decode_s / max(done.receipt.output_tokens - 1, 1)

    def _made_up(self, num_tokens: int, turn: int) -> list[int]:
        """Ids spread over the vocabulary, another first one each turn, so that no page of another prompt serves."""
        return [(7919 * i + 104_729 * turn + 13) % self._llm.spec.vocab_size for i in range(num_tokens)]


def open_entrants(config: Config, models: Sequence[str], *, plain: bool) -> list[Entrant]:
    """Models as they were named, each possibly with settings: MODEL,kv-dtype=int8.

    Raises ConfigError for settings that there are not, UnsupportedModelError for text encoders, and what `find_model`
    raises.
    """
    entrants = []
    for given in models:
        model, settings = _taken_apart(given)
        entrants.append(Entrant(model, config, settings, plain=plain))
    for entrant, name in zip(entrants, _names(entrants), strict=True):
        entrant.name = name
    needed = sum(SPARE_BYTES + int(1.2 * entrant.file.weights.file_bytes) for entrant in entrants)
    keeps_open = needed < SHARE * available_memory_bytes()
    for entrant in entrants:
        entrant.keeps_open = keeps_open
    return entrants


def _taken_apart(given: str) -> tuple[str, dict[str, str]]:
    match = re.fullmatch(r"(.*?)((?:,[a-z-]+=\w+)*)", given, re.DOTALL)
    model, rest = match.groups() if match else (given, "")
    settings = dict(part.split("=") for part in rest.split(",") if part)
    for name, value in settings.items():
        if name not in SETTINGS:
            raise ConfigError(
                f"{given!r:.200}: {brief(name)} is no setting of a model; those are {', '.join(SETTINGS)}"
            )
        if value not in SETTINGS[name][1]:
            raise ConfigError(f"{given!r:.200}: {name} is one of {', '.join(SETTINGS[name][1])}, not {brief(value)}")
    return model, settings


def _names(entrants: Sequence[Entrant]) -> list[str]:
    """Files' names, with folders where those are not enough, and settings; numbers for what is still the same."""
    stems = [entrant.file.path.name.removesuffix(".gguf") for entrant in entrants]
    longer = [
        f"{entrant.file.path.resolve().parent.name}/{stem}" for entrant, stem in zip(entrants, stems, strict=True)
    ]
    paths = [entrant.file.path for entrant in entrants]
    names = [
        long if any(s == stem and p != path for s, p in zip(stems, paths, strict=True)) else stem
        for stem, long, path in zip(stems, longer, paths, strict=True)
    ]
    names = [
        name + "".join(f" {key}={value}" for key, value in entrant.settings.items())
        for name, entrant in zip(names, entrants, strict=True)
    ]
    counts = Counter(names)
    seen: Counter[str] = Counter()
    for at, name in enumerate(names):
        seen[name] += 1
        if counts[name] > 1:
            names[at] = f"{name} #{seen[name]}"
    return names
