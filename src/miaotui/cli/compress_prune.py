"""`miaotui compress --prune-layers … --prune-width … --mask …`: the parts of a model that are left out."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.parsing import at_least, number
from miaotui.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from miaotui.compress.calibration import Calibration
    from miaotui.compress.source import Source
    from miaotui.formats.weights import TensorType

MASKS = "wanda:50% or 2:4"
_KEYS = ("layers", "width", "mask")
Mask = tuple[str, float]
"""Its kind, and the share of weights that become 0."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what is left out of a model."""
    group = parser.add_argument_group("pruning: a model with parts left out")
    group.add_argument(
        "--prune-layers",
        metavar="N|SHARE",
        type=_amount,
        help="leave out so many whole layers, or 20%%: those that --prune-text misses least",
    )
    group.add_argument(
        "--prune-text", metavar="FILE", type=Path, help="UTF-8 text on which that is measured (default: --text)"
    )
    group.add_argument(
        "--prune-width",
        metavar="SHARE",
        type=_share,
        help="leave out neurons (20%%) until the layers have lost that share of their weights",
    )
    group.add_argument(
        "--keep-kv-heads", metavar="N", type=at_least(1), help="with --prune-width: leave out groups of heads, too"
    )
    group.add_argument(
        "--mask",
        metavar="KIND",
        type=_mask,
        help=MASKS.replace("%", "%%")
        + ": weights that matter least become 0. No speed on CPU, and the file is as large as before; only "
        "compressed it gets smaller",
    )


def check(args: Namespace) -> None:
    """Raises ConfigError for options that say nothing alone, or that undo each other."""
    if args.prune_layers is None and args.prune_text is not None:
        raise ConfigError("--prune-text says on what layers are chosen; give --prune-layers, too.")
    if args.prune_width is None and args.keep_kv_heads is not None:
        raise ConfigError("--keep-kv-heads says how width is pruned; give --prune-width, too.")
    if sum(part is not None for part in (args.prune_layers, args.prune_width, args.mask)) > 1:
        raise ConfigError(
            "--prune-layers, --prune-width and --mask change the inputs that the others judge by; write the result of "
            "one as --type f16, calibrate that, and go on with it."
        )
    is_smaller = args.prune_layers is not None or args.prune_width is not None
    if is_smaller and (args.method == "gptq" or args.fold):
        raise ConfigError(
            "behind --prune-layers and --prune-width the calibration holds no longer, which gptq and --fold need; "
            "write the result as --type f16, and go on with that."
        )
    if args.mask is not None and args.method == "gptq":
        raise ConfigError("gptq would fill the mask's zeros with others' errors; give --method search or rtn.")
    if args.mask is not None and (args.rotate or args.low_rank is not None or args.rank_correction is not None):
        raise ConfigError("--rotate, --low-rank and --rank-correction would fill the mask's zeros; leave them out.")


def pruned(
    args: Namespace, source: Source, calibration: Calibration | None, kind: TensorType
) -> tuple[Source, Calibration | None]:
    """The source without what the arguments leave out, and the calibration where it still fits: behind a mask.

    Raises ConfigError for what cannot be left out, or needs a calibration or text that was not given.
    """
    if args.prune_layers is not None:
        return _without_layers(source, args, calibration), None
    if args.prune_width is not None:
        return _narrowed(source, args, kind, _needed(calibration, "--prune-width")), None
    if args.mask is not None:
        return _masked(source, args.mask, kind, _needed(calibration, "--mask")), calibration
    return source, calibration


def document(args: Namespace, source: Source, output: Path) -> dict[str, Any]:
    """What was left out, for JSON; of a masked file also its bytes when compressed."""
    told = {key: source.metadata[f"miaotui.prune.{key}"] for key in _KEYS if f"miaotui.prune.{key}" in source.metadata}
    if args.mask is None:
        return {"pruned": told} if told else {}
    from miaotui.compress.prune.mask import NO_SPEED, deflated_bytes

    return {"pruned": told | {"deflated_bytes": deflated_bytes(output), "note": NO_SPEED}}


def report(args: Namespace, source: Source, output: Path) -> None:
    """The same for people."""
    from miaotui.formats.store_progress import format_bytes

    for key, value in document(args, source, output).get("pruned", {}).items():
        print(f"  {key.replace('_bytes', '')}: {format_bytes(value) if isinstance(value, int) else value}")


def _without_layers(source: Source, args: Namespace, calibration: Calibration | None) -> Source:
    from miaotui.cli.text import read_text
    from miaotui.compress.prune import depth, sliding
    from miaotui.compress.prune.dimensions import dimensions
    from miaotui.compress.trials import Trials
    from miaotui.formats import open_model

    num_layers = dimensions(source).num_layers
    count = args.prune_layers if isinstance(args.prune_layers, int) else round(args.prune_layers * num_layers)
    depth.check_count(count, num_layers)
    text = args.prune_text or args.text
    if text is None:
        raise ConfigError("--prune-layers needs --prune-text FILE: a text like those the model is for.")
    trials = Trials.on_text(open_model(source.path), read_text(text))
    show = None if args.json or not sys.stderr.isatty() else _show_trial
    if calibration is not None and calibration.influence is not None:
        order = depth.influence_order(calibration.influence)
    else:
        order = depth.order_alone(trials.kl_without, num_layers, show)
    chosen = depth.choose(trials.kl_without, count, order, units=sliding.units(source), progress=show)
    _end_line(show)
    return depth.WithoutLayers(source, chosen)


def _narrowed(source: Source, args: Namespace, kind: TensorType, calibration: Calibration) -> Source:
    from miaotui.compress.prune import width
    from miaotui.compress.prune.dimensions import dimensions

    multiple = max(width.MULTIPLE, kind.block_weights)  # so that rows stay whole blocks of the wanted type
    kept = width.widths(dimensions(source), args.prune_width, kv_heads=args.keep_kv_heads, multiple=multiple)
    show = None if args.json or not sys.stderr.isatty() else _show_layer
    narrow = width.narrowed(source, calibration, kept, step=show)
    _end_line(show)
    return narrow


def _masked(source: Source, mask: Mask, kind: TensorType, calibration: Calibration) -> Source:
    from miaotui.compress.prune.mask import check_kind
    from miaotui.compress.prune.two_four import two_four
    from miaotui.compress.prune.wanda import wanda

    check_kind(kind)
    return two_four(source, calibration) if mask[0] == "2:4" else wanda(source, calibration, mask[1])


def _needed(calibration: Calibration | None, option: str) -> Calibration:
    if calibration is None:
        raise ConfigError(f"{option} needs a calibration, to know what matters; give one.")
    return calibration


def _amount(text: str) -> int | float:
    """A number of layers, or a share of them."""
    return _share(text) if text.endswith("%") else at_least(1)(text)


def _share(text: str) -> float:
    percent = number(text.removesuffix("%"))
    if not text.endswith("%") or not 0 < percent < 100:
        raise ArgumentTypeError(f"it must be a share above 0 % and below 100 %, as 20%, not {text[:40]!r}")
    return percent / 100


def _mask(text: str) -> Mask:
    name, _, share = text.partition(":")
    if text == "2:4":
        return text, 0.5
    if name == "wanda" and share:
        return name, _share(share)
    raise ArgumentTypeError(f"it must be {MASKS}, not {text[:40]!r}")


def _show_trial(layers: Sequence[int], kl: float, ahead: int) -> None:
    named = " ".join(map(str, layers))
    print(f"\rwithout layers {named}: KL {kl:.4f}; {ahead} trials to come \033[K", end="", file=sys.stderr, flush=True)


def _show_layer(layer: int, num_layers: int) -> None:
    print(f"\rlayer {layer} of {num_layers} \033[K", end="", file=sys.stderr, flush=True)


def _end_line(show: object | None) -> None:
    if show is not None:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
