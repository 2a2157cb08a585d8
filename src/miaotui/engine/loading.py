"""From a model's name to an engine: file → tokenizer → graph → program → KV pages."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from miaotui import _native
from miaotui.config import Config, load_config
from miaotui.core import Activations
from miaotui.engine import tuning
from miaotui.engine.block_pool import BlockPool
from miaotui.engine.chat_output import TAIL_TOKENS, opens_reasoning
from miaotui.engine.drafter import DRAFT_ROWS, Drafter
from miaotui.engine.engine import Engine, Vocabulary
from miaotui.engine.grammar import GrammarCompiler
from miaotui.engine.kv_memory import KvPlan, available_memory_bytes, plan_kv
from miaotui.engine.pages import num_blocks_for
from miaotui.engine.pages_ahead import PagesAhead
from miaotui.engine.prefix_store import PrefixStore, folder_name
from miaotui.engine.runner import Runner
from miaotui.engine.scheduler import Scheduler, StepLimits
from miaotui.engine.tuner import AT_START_S, Tuner
from miaotui.errors import ConfigError, InvalidRequestError, ModelNotFoundError, brief
from miaotui.formats import ModelFile, open_model
from miaotui.formats.spec import ModelSpec
from miaotui.formats.tokenizer import Tokenizer
from miaotui.graph.compile import CompiledProgram, CompileOptions, compile_graph
from miaotui.graph.nodes import Graph
from miaotui.graph.pack_cache import PackCache
from miaotui.models import build_graph

KV_DTYPES = ("int16", "f16", "bf16", "int8", "f32")
MAX_SEQUENCES = 4096

MAX_STEP = 65536
"""Most tokens, and most logit rows, that one step may be made for."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is to be run. Raises ConfigError for values out of range.

    activations: what quantized weights are multiplied with, see `miaotui.core.Activations`.
    kv_dtype: element type of keys and values. context_length, kv_memory_bytes: None chooses, see `plan_kv`.
    max_tokens_per_step: prompts are read in chunks of at most so many tokens.
    max_sequences, max_logit_rows: at most so many sequences take part in a step, and rows are computed into logits; it
    needs at least one token and one row for each sequence.
    disabled_passes: names of fusions to leave out (`miaotui.graph.passes.PASSES`): slower, the same bits.
    pack_cache_bytes: packed weights are kept on disk, at most so many bytes; 0: not; None: as configured.
    tune: whether to measure, once per machine and shape of model, what is fastest; None: as configured.
    tune_in_pauses: not before the model is ready, but in the pauses of the thread that steps its engine.
    prefix_cache: whether prompts begin from pages that other requests have filled with the same tokens.
    prefix_cache_bytes: such pages are kept on disk, too, at most so many bytes; 0: not; None: as configured.
    """

    activations: Activations = "int16"
    kv_dtype: str = "int16"
    context_length: int | None = None
    kv_memory_bytes: int | None = None
    max_tokens_per_step: int = 512
    max_sequences: int = 16
    max_logit_rows: int = 16
    disabled_passes: frozenset[str] = frozenset()
    pack_cache_bytes: int | None = None
    tune: bool | None = None
    tune_in_pauses: bool = False
    prefix_cache: bool = True
    prefix_cache_bytes: int | None = None
    drafter: Drafter | None = None

    def __post_init__(self) -> None:
        if self.kv_dtype not in KV_DTYPES:
            raise ConfigError(f"kv_dtype must be one of {', '.join(KV_DTYPES)}, not {self.kv_dtype!r}.")
        for name in ("context_length", "kv_memory_bytes"):
            if getattr(self, name) is not None:
                _check_size(name, getattr(self, name), 1, 2**63 - 1)
        for name in ("pack_cache_bytes", "prefix_cache_bytes"):
            if getattr(self, name) is not None:
                _check_size(name, getattr(self, name), 0, 2**63 - 1)
        _check_size("max_sequences", self.max_sequences, 1, MAX_SEQUENCES)
        for name in ("max_tokens_per_step", "max_logit_rows"):
            _check_size(name, getattr(self, name), self.max_sequences, MAX_STEP)

    @property
    def num_rows(self) -> int:
        """Rows of logits in a step, those of drafts included."""
        return self.max_logit_rows + (0 if self.drafter is None else DRAFT_ROWS)


def _check_size(name: str, value: object, low: int, high: int) -> None:
    """Raise ConfigError unless a size is a whole number in its range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, not {brief(value)}.")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything one `LLM` is made of."""

    file: ModelFile
    tokenizer: Tokenizer
    graph: Graph
    compiled: CompiledProgram
    kv_plan: KvPlan
    kv_dtype: str
    activations: Activations
    engine: Engine
    grammars: GrammarCompiler


def fingerprint(loaded: LoadedModel, template: str | None) -> str:
    """Names what a model's answers depend on, as `LLM.fingerprint` says; the same on every machine."""
    return _fingerprint(loaded, template, file_digest(loaded.file))


def mark(loaded: LoadedModel, template: str | None) -> str:
    """Tells a model from others at a glance: the beginning of its fingerprint, or of a hash of which files it is.

    The latter where the files would have to be read for the former: they never are.
    """
    cache, weights = _digests(), loaded.file.weights
    digest = cache.known_digest(weights)
    if digest is None:
        return f"files {cache.key(weights)[:12]}"
    return f"fingerprint {_fingerprint(loaded, template, digest)[:12]}"


def file_digest(file: ModelFile) -> str:
    """SHA-256 of a model's files, read where it is not known yet. Raises what `LLM.fingerprint` does."""
    return _digests().digest(file.weights)


def _digests() -> PackCache:
    """What remembers the digests of files; nothing packed is looked for in it."""
    return PackCache(load_config().home / "packed", 0)


def _fingerprint(loaded: LoadedModel, template: str | None, digest: str) -> str:
    facts = (digest, template, loaded.kv_dtype, loaded.activations)
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()


def find_model(model: str | os.PathLike[str]) -> ModelFile:
    """Open a model by name in the store or by path.

    Raises InvalidRequestError for other things, ModelNotFoundError, and what `open_model` raises.
    """
    if isinstance(model, str):
        from miaotui.formats.store import resolve

        return open_model(resolve(model))
    if not isinstance(model, os.PathLike):
        raise InvalidRequestError(f"a model is a name or a path, not {brief(model)}; for example 'smollm2:135m'.")
    return open_model(model)


def load_model(file: ModelFile, options: LoadOptions) -> LoadedModel:
    """Compile an opened model and give it KV pages.

    Raises ModelFileError, UnsupportedModelError, TokenizerError for the file; ContextLengthError, CapacityError for
    sizes that the model or the memory does not allow.
    """
    spec = file.spec
    kv_shape = (spec.num_layers, spec.num_kv_heads, spec.head_dim)
    plan = plan_kv(
        _native.KvPool.block_bytes(*kv_shape, options.kv_dtype),
        spec.context_length,
        context_length=options.context_length,
        kv_memory_bytes=options.kv_memory_bytes,
        max_sequences=options.max_sequences,
        available_bytes=available_memory_bytes(),
    )
    tokenizer = Tokenizer.from_model(file)
    graph = build_graph(spec, file.weights)
    config = load_config({name: getattr(options, name) for name in ("pack_cache_bytes", "prefix_cache_bytes", "tune")})
    limits = StepLimits(options.max_tokens_per_step, options.max_sequences, options.num_rows)
    content = _content(file) if options.prefix_cache and config.prefix_cache_bytes else None
    compiled = compile_graph(graph, file.weights, options=_compile_options(options), pack_cache=_pack_cache(config))
    tuners = _tuners(compiled, spec, options, config)
    if not options.tune_in_pauses:
        for tuner in tuners:
            tuner.go_on(AT_START_S)
    kv = _native.KvPool(*kv_shape, plan.num_blocks, options.kv_dtype)
    runner = Runner(compiled.program, kv, limits, num_blocks_for(plan.context.length))
    vocabulary = _vocabulary(spec, tokenizer)
    saved = None if content is None else _prefix_store(kv, content, spec, options, config)
    pool = BlockPool(plan.num_blocks)
    scheduler = Scheduler(
        pool,
        limits,
        reuse_prefixes=options.prefix_cache,
        saved=saved,
        drafter=options.drafter,
    )
    engine = Engine(scheduler, runner, vocabulary, plan.context, PagesAhead(kv, pool), tuners)
    grammars = GrammarCompiler(tokenizer)
    return LoadedModel(file, tokenizer, graph, compiled, plan, options.kv_dtype, options.activations, engine, grammars)


def _vocabulary(spec: ModelSpec, tokenizer: Tokenizer) -> Vocabulary:
    def opens(prompt: Sequence[int]) -> bool:
        return opens_reasoning(tokenizer.decode(prompt[-TAIL_TOKENS:], skip_special=False))

    return Vocabulary(spec.vocab_size, tokenizer.eos_ids, tokenizer.decoder, opens)


def _tuners(compiled: CompiledProgram, spec: ModelSpec, options: LoadOptions, config: Config) -> list[Tuner]:
    """What makes the choices for this machine, if there is any."""
    too_many = _native.cpu_info()["threads"] > len(os.sched_getaffinity(0))  # steps then take turns on the processors
    if not config.tune or too_many or compiled.weight_bytes < tuning.MIN_WEIGHT_BYTES:
        return []
    return [Tuner(compiled, spec, options.kv_dtype, max_tokens=options.max_tokens_per_step, home=config.home)]


def _content(file: ModelFile) -> str:
    """Names what a model's files hold, or which files they are where they cannot be read.

    A digest, so that a copy, a mount or a container made anew is the same model; files that were never seen are read
    for it, before they are packed: what is packed of a copy is found then, too.
    """
    try:
        return file_digest(file)
    except (OSError, ValueError, ModelNotFoundError):
        return repr([part.identity for part in file.weights.files])


def _prefix_store(
    kv: _native.KvPool, content: str, spec: ModelSpec, options: LoadOptions, config: Config
) -> PrefixStore:
    """Where pages are kept across restarts."""
    nameless = replace(spec, name="")  # it may be the file's
    name = folder_name(content, nameless, kv.page_bytes, options.kv_dtype, options.activations)
    return PrefixStore(config.home / "prefixes", name, kv, config.prefix_cache_bytes)


def _pack_cache(config: Config) -> PackCache | None:
    return PackCache(config.home / "packed", config.pack_cache_bytes) if config.pack_cache_bytes else None


def _compile_options(options: LoadOptions) -> CompileOptions:
    return CompileOptions(
        activations=options.activations,
        disabled_passes=options.disabled_passes,
        max_tokens=options.max_tokens_per_step,
        max_sequences=options.max_sequences,
        max_logit_rows=options.num_rows,
    )
