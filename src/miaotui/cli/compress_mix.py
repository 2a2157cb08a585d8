"""`miaotui compress --mix … --budget-mb|--max-kl|--min-speedup`: each tensor's type by what was measured."""

from __future__ import annotations

import argparse
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import note
from miaotui.cli.parsing import number
from miaotui.errors import ConfigError

if TYPE_CHECKING:
    from miaotui.compress.calibration import Calibration
    from miaotui.compress.kept_losses import KeptLosses
    from miaotui.compress.mixing import Limits, Mixture
    from miaotui.compress.source import Source
    from miaotui.formats.weights import TensorType

DEFAULT_MIX = "q4_0,iq4_nl,q4_1,q5_0,q5_1,q6_k,q8_0"
AS_IT_IS = "types are mixed for a GGUF file as it is; write what comes before as --type f16, then mix."
SHOWN = 8
"""Mixes of the frontier that are shown."""


class ReadRecipe(argparse.Action):
    """Reads a recipe's options into the namespace at once, so that options behind it override it."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option: str | None = None) -> None:
        """Raises what the options' own parsing does."""
        from miaotui.compress.recipe import arguments_of, read_recipe

        given = vars(namespace).copy()
        words = arguments_of(read_recipe(values))
        known, _ = parser.parse_known_args(["MODEL", "--output=OUT", *words])  # the model is left over
        for word in words:
            name = word[2:].partition("=")[0].replace("-", "_")
            given[name] = getattr(known, name)
        vars(namespace).update(given)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what limits a mix of types."""
    group = parser.add_argument_group("mixed types: each tensor's by its measured loss and the kernels' measured speed")
    group.add_argument("--mix", metavar="TYPES", help=f"types to choose from (default with a limit: {DEFAULT_MIX})")
    group.add_argument("--budget-mb", type=_positive, metavar="MB", help="most megabytes of the file")
    group.add_argument("--max-kl", type=_positive, metavar="NATS", help="most mean KL from the source, per token")
    group.add_argument(
        "--min-speedup", type=_positive, metavar="FACTOR", help="matrices so many times faster in decoding, estimated"
    )
    group.add_argument("--prefer", choices=("bytes", "speed"), help="with --max-kl: the smallest (default) or fastest")
    group.add_argument(
        "--mix-text", metavar="FILE", type=Path, help="UTF-8 text that losses are measured on (default: --text)"
    )
    group.add_argument(
        "--mix-losses", metavar="FILE", type=Path, help="keep losses there: other limits then need no new measurement"
    )


def wants_mix(args: Namespace) -> bool:
    """Whether any limit was given."""
    limits = (args.budget_mb, args.max_kl, args.min_speedup)
    if all(limit is None for limit in limits):
        if args.mix or args.prefer or args.mix_text or args.mix_losses:
            raise ConfigError("--mix chooses types within a limit; give --budget-mb, --max-kl or --min-speedup.")
        return False
    return True


def check(args: Namespace, model: Path) -> None:
    """What can be told to be wrong before anything is measured. Raises ConfigError."""
    if not wants_mix(args):
        return
    before = ("prune_layers", "prune_width", "mask", "rotate", "fold", "low_rank", "separable")
    if model.is_dir() or any(getattr(args, name) is not None for name in before):
        raise ConfigError(AS_IT_IS)
    if args.rank_correction is not None:
        raise ConfigError("--rank-correction is not in the budget of a mix; leave one of them out.")
    if args.mix_text is None and args.text is None:
        raise ConfigError("the loss of types is measured on text: give --text FILE, or --mix-text FILE for that alone.")
    _kinds(args)


def _kinds(args: Namespace) -> list[TensorType]:
    from miaotui.compress.plan import type_named

    kinds = [type_named(name.strip()) for name in (args.mix or DEFAULT_MIX).split(",")]
    if whole := [kind.name.lower() for kind in kinds if kind.block_weights == 1]:
        raise ConfigError(f"--mix chooses among types of few bits, not {whole[0]}; leave it out.")
    return kinds


def mixed_types(
    args: Namespace, source: Source, calibration: Calibration | None
) -> tuple[Mapping[str, TensorType], Mixture]:
    """A type for every matrix. Raises ConfigError where nothing keeps within the limits, or no text was given."""
    from miaotui.cli.text import read_text
    from miaotui.compress.mixing import mixture
    from miaotui.compress.quantize import METHODS
    from miaotui.compress.source import FileSource
    from miaotui.compress.trials import Trials
    from miaotui.formats import open_model

    if not isinstance(source, FileSource):
        raise ConfigError(AS_IT_IS)
    kinds = _kinds(args)
    names = [t.name for t in source.tensors.values() if len(t.shape) == 2]
    text = read_text(args.mix_text or args.text)
    trials = Trials.on_text(open_model(source.path), text)
    shown = None if args.json or not sys.stderr.isatty() else _shower(len(kinds))
    found = mixture(
        source,
        names,
        kinds,
        trials.kl_with,
        METHODS[args.method],
        _limits(args, source, names, trials.multiplied),
        tables=set(names) - trials.multiplied,
        calibration=calibration,
        kept=_kept(args, source, calibration, [kind.name for kind in kinds], text),
        progress=shown,
    )
    return found.mix.types, found


def _kept(args: Namespace, source: Source, calibration: Calibration | None, types: list[str], text: str) -> KeptLosses:
    import hashlib

    from miaotui import __version__
    from miaotui.compress.kept_losses import KeptLosses
    from miaotui.formats.store_files import digest_file

    calibrated = "" if calibration is None else calibration.digest
    read = hashlib.sha256(text.encode()).hexdigest()
    path = losses_file(args)
    kept = KeptLosses(path, [__version__, digest_file(source.path), read, calibrated, args.method, *types])
    if len(kept):
        note(f"{path}: {len(kept)} groups of matrices are measured already")
    return kept


def losses_file(args: Namespace) -> Path:
    """Where losses are kept: beside the output until that is written, or where the user wants them for other limits."""
    output: Path = args.output
    given: Path | None = args.mix_losses
    return given or output.with_name(f"{output.name}.losses")


def finish(args: Namespace) -> None:
    """Called when the output is written."""
    if args.mix_losses is None:
        losses_file(args).unlink(missing_ok=True)


def _limits(args: Namespace, source: Source, names: Sequence[str], multiplied: Collection[str]) -> Limits:
    import math

    from miaotui.compress.mixing import Limits
    from miaotui.compress.speed import seconds_per_token

    others = sum(t.raw.nbytes for t in source.tensors.values() if t.raw is not None and t.name not in names)
    room = math.inf if args.budget_mb is None else args.budget_mb * 1e6 - others - _header_bytes(source)
    seconds = math.inf
    if args.min_speedup is not None:
        now = sum(seconds_per_token(source.tensors[name].type, *source.tensors[name].shape) for name in multiplied)
        seconds = now / args.min_speedup
    return Limits(room, seconds, args.max_kl, args.prefer == "speed")


def _header_bytes(source: Source) -> int:
    """About as many as the output's metadata will have."""
    return sum(len(bytes(value)) + len(key) + 16 for key, value in source.fields.items()) + 128 * len(source.tensors)


def document(found: Mixture) -> dict[str, Any]:
    """For JSON: the KL measured, and the frontier as estimated."""
    return {
        "kl": found.kl,
        "frontier": [
            {"bytes": mix.num_bytes, "seconds_per_token": mix.seconds, "kl": mix.loss} for mix in found.frontier
        ],
    }


def report(found: Mixture) -> None:
    """The same for people: some mixes of the frontier, and the one that was taken."""
    from miaotui.cli.output import print_table

    mixes = found.frontier
    some = [mixes[round(at * (len(mixes) - 1) / (SHOWN - 1))] for at in range(SHOWN)] if len(mixes) > SHOWN else mixes
    rows = [[f"{m.num_bytes / 1e6:.0f}", f"{m.seconds * 1e3:.2f}", f"{m.loss:.4f}"] for m in some]
    print("frontier, as estimated:")
    print_table(["MB of matrices", "ms a token", "KL"], rows)
    taken = found.mix
    print(f"taken: {taken.num_bytes / 1e6:.0f} MB, {taken.seconds * 1e3:.2f} ms; KL measured: {found.kl:.4f}")


def _shower(num_types: int) -> Callable[[int, int], None]:
    """Says what is going to be done, and from the first group on how long it is going to take."""
    from miaotui.compress.mixing import ROUNDS
    from miaotui.formats.store_progress import format_duration

    begin = time.monotonic()

    def show(done: int, total: int) -> None:
        if done == 0:
            note(f"{total} groups of matrices, each in {num_types} types and one trial; then up to {ROUNDS} mixes")
            return
        left_s = (time.monotonic() - begin) / done * (total - done)
        print(f"\rlosses {done}/{total}, {format_duration(left_s)} left \r", end="", file=sys.stderr, flush=True)

    return show


def _positive(text: str) -> float:
    value = number(text)
    if value <= 0:
        raise ArgumentTypeError(f"it must be above 0, not {text[:40]!r}")
    return value
