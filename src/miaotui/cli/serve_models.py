"""The models that `miaotui serve` opens: to write text, perhaps with a small one before it, and to make embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.answers.cache import AnswerCache
from miaotui.cli.cascade_models import open_all
from miaotui.cli.parsing import open_embedder, open_llm
from miaotui.config import Config, ServeConfig
from miaotui.engine.embedder import Embedder
from miaotui.engine.llm import LLM
from miaotui.engine.loading import mark
from miaotui.errors import ConfigError
from miaotui.formats import open_model
from miaotui.formats.store import pull
from miaotui.formats.store_progress import format_bytes
from miaotui.server.app import Before, create_app
from miaotui.server.guard import Guard
from miaotui.server.logs import LogWriter
from miaotui.server.settings import ServerSettings, settings_of

if TYPE_CHECKING:
    from miaotui.adaptive.cascade.gate import Gate


@dataclass(frozen=True, slots=True)
class Served:
    """What was opened, and what clients call it. small: what is asked before `llm`, as far as the gate goes."""

    llm: LLM | None
    embedder: Embedder | None
    name: str
    embed_name: str | None
    small: LLM | None = None
    gate: Gate | None = None

    @classmethod
    @contextmanager
    def open(cls, config: Config, serve: ServeConfig) -> Iterator[Served]:
        """Open the configured models, and close them at the end. A text encoder is served alone.

        Raises ConfigError where two text encoders are asked for, and what opening a model raises.
        """
        with ExitStack() as stack:
            name = name_of(config.model)
            if open_model(pull(config.model)).spec.is_encoder:
                if serve.embed_model is not None:
                    raise ConfigError(
                        f"{config.model} makes embeddings itself; leave out {serve.sources['embed_model']}, "
                        "or give a model that writes text."
                    )
                _no_cascade(serve, f"{config.model} makes embeddings")
                name = serve.model_name or name
                yield cls(None, stack.enter_context(open_embedder(config, config.model)), name, name)
                return
            writers = _open_writers(stack, config, serve)
            if serve.embed_model is None:
                yield cls(writers[0], None, name, None, *writers[1:])
                return
            plain = replace(config, sources={**config.sources, "activations": "default"})  # those are the model's
            embedder = stack.enter_context(open_embedder(plain, serve.embed_model))
            yield cls(writers[0], embedder, name, name_of(serve.embed_model), *writers[1:])

    def settings(self, serve: ServeConfig, keys: Sequence[Any]) -> ServerSettings:
        """How the server is set up."""
        return settings_of(serve, self.name, keys, self.embed_name)

    def app(self, settings: ServerSettings, log: LogWriter, cache: AnswerCache | None = None) -> Guard:
        """The application over these models, which keeps answers in `cache`."""
        from miaotui.engine.async_embedder import AsyncEmbedder
        from miaotui.engine.async_llm import AsyncLLM
        from miaotui.engine.step_turns import StepTurns

        llm, embedder, small, before = self.llm, self.embedder, self.small, None
        turns = None if small is None else StepTurns()
        if small is not None and self.gate is not None:
            before = Before(lambda: AsyncLLM(small, turns=turns), self.gate)
        return create_app(
            None if llm is None else lambda: AsyncLLM(llm, turns=turns),
            settings,
            log.write,
            open_embedder=None if embedder is None else lambda: AsyncEmbedder(embedder),
            cache=cache,
            num_lines_dropped=lambda: log.num_dropped,
            before=before,
        )

    def introduction(
        self, settings: ServerSettings, threads: int, url: str, cache: AnswerCache | None = None
    ) -> list[str]:
        """What is served, how much of it, to whom, and a line to try it with."""
        lines: list[str] = []
        route, body = "embeddings", '{"input": "What is the capital of France?"}'
        if self.llm is not None:
            loaded = self.llm.loaded
            plan, limits = loaded.kv_plan, loaded.engine.scheduler.limits
            pages, waiting = f"{format_bytes(plan.total_bytes)} of KV pages", settings.max_waiting
            lines += [
                f"model    {settings.model_name}: {loaded.file.path}, {mark(loaded, self.llm.chat_template)}",
                f"threads  {threads}; {limits.max_sequences} answers run together, {waiting} requests wait",
                f"memory   {pages}, contexts of up to {plan.context.length} tokens",
            ]
            if self.small is not None and self.gate is not None:
                sure = f"{self.gate.signal} of at least {self.gate.threshold:.3g}, floor {self.gate.floor:g}"
                lines.append(f"first    {self.small.spec.name}, whose answers suffice with a {sure}")
            kept = ", ".join(level.name for level in cache.levels) if cache else ""
            lines.append(f"answers  {'kept in ' + kept if kept else 'not kept; --cache sqlite would'}")
            lines.append(f"page     {url}/")
            route = "chat/completions"
            question = '{"role": "user", "content": "What is the capital of France?"}'
            body = f'{{"messages": [{question}], "temperature": 0, "max_tokens": 100}}'
        if self.embedder is not None:
            size = f"{self.embedder.dimensions} dimensions, texts of up to {self.embedder.max_tokens} tokens"
            lines.append(f"embed    {settings.embed_model_name}: {self.embedder.file.path}; {size}")
        key = "" if not settings.keys else ' -H "Authorization: Bearer $KEY"'
        return [
            *lines,
            f"keys     {len(settings.keys) or 'none: whoever reaches the address is answered'}",
            f"url      {url}/v1",
            f"try      curl {url}/v1/{route}{key} -d '{body}'",
        ]


def _open_writers(stack: ExitStack, config: Config, serve: ServeConfig) -> tuple[LLM, LLM | None, Gate | None]:
    """What writes text, and what is asked before it with the gate for that.

    Raises ConfigError where one of the two is missing, GateError for a gate that is not for these models.
    """
    most = serve.max_sequences
    more: dict[str, Any] = {"max_sequences": most, "max_logit_rows": most, "tune_in_pauses": True}
    if serve.small_model is None:
        _no_cascade(serve, "no --small-model is given")
        return stack.enter_context(open_llm(config, fetch=True, **more)), None, None
    if serve.gate is None:
        raise ConfigError(
            f"{serve.sources['small_model']} needs --gate, too; `miaotui cascade calibrate` makes such a file."
        )
    from miaotui.adaptive.cascade import load_gate  # needed by few

    gate = load_gate(serve.gate)
    gate.check_use()
    small, llm = (stack.enter_context(one) for one in open_all(config, [serve.small_model, config.model], **more))
    gate.check([small, llm])
    return llm, small, gate


def _no_cascade(serve: ServeConfig, reason: str) -> None:
    """Raises ConfigError where a small model or a gate is given all the same."""
    for name in ("small_model", "gate"):
        if getattr(serve, name) is not None:
            raise ConfigError(f"{reason}, so {serve.sources[name]} has no use; leave it out.")


def name_of(model: str) -> str:
    """What clients call a model that was given by name or path."""
    return Path(model).stem if os.sep in model else model
