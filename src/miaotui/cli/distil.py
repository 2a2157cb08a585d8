"""`miaotui distil TEACHER STUDENT -o OUT`: a pruned or quantized model learns from the one it was made of."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import note, peak_memory_bytes, print_json, print_pairs
from miaotui.cli.parsing import add_model_options, at_least, config_of, number

if TYPE_CHECKING:
    from miaotui.compress.distil.distil import Distilled
    from miaotui.compress.distil.settings import DistilSettings
    from miaotui.compress.distil.training import Progress

LINE_STEPS = 10
"""Where standard error is no terminal, a line comes that often."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("teacher", help="name or path of the model to learn from")
    parser.add_argument("student", help="GGUF file of the model that learns")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", type=Path, help="the file to write (.gguf)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=number, default=30.0, metavar="N", help="time to train (default 30)")
    length.add_argument("--steps", type=at_least(1), metavar="N", help="train for so many steps instead")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--lora", type=at_least(1), metavar="RANK", help="train low-rank factors and merge them")
    size.add_argument("--full", action="store_true", help="train all weights of the layers (default)")
    parser.add_argument("--rate", type=number, metavar="R", help="highest learning rate (2e-4; with --lora 1e-3)")
    parser.add_argument("--from-layer", type=at_least(0), default=0, metavar="N", help="leave the layers before alone")
    parser.add_argument("--text", metavar="FILE", help="UTF-8 text to learn from, too; - reads standard input")
    parser.add_argument("--text-share", type=number, default=0.5, metavar="SHARE", help="of it, while it lasts (0.5)")
    parser.add_argument(
        "--prompts", metavar="JSONL", help='prompts the teacher answers: {"prompt": …} or {"messages": …}'
    )
    parser.add_argument(
        "--on-policy", type=number, default=0.0, metavar="SHARE", help="of texts the student writes (0)"
    )
    parser.add_argument(
        "--type", metavar="TYPE", help="of the written matrices, rounded to while training (the student's)"
    )
    parser.add_argument("--sequence", type=at_least(8), default=512, metavar="N", help="tokens of a sequence (512)")
    parser.add_argument("--batch", type=at_least(1), default=4, metavar="N", help="sequences of a step (4)")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of texts and factors (0)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep state and texts there (default: OUT.distil)")
    parser.add_argument("--resume", action="store_true", help="go on where the run was interrupted")
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Ctrl-C keeps the state and says how to go on."""
    from miaotui.compress.distil.framework import require_torch

    require_torch()
    from miaotui.compress.distil.distil import Job, distil
    from miaotui.compress.distil.opened import required_bytes
    from miaotui.formats.store import resolve
    from miaotui.formats.store_progress import format_bytes

    settings = _settings(args)
    args.model = args.teacher
    config = config_of(args)
    job = Job(resolve(args.teacher), resolve(args.student), args.output, settings, args.work)
    note(f"needs about {format_bytes(required_bytes(job.student, settings))} of memory beside the teacher's")
    from miaotui.cli.distil_models import EngineWriter, material_of, open_writer

    with EngineWriter.open(config, job.teacher, settings.sequence_tokens) as teacher:
        material = material_of(teacher.llm, settings, args.text, args.prompts)
        try:
            done = distil(
                job,
                teacher,
                material,
                resume=args.resume,
                open_writer=open_writer(config, settings.sequence_tokens),
                report=_show if sys.stderr.isatty() else _tell,
            )
        except KeyboardInterrupt:
            note(f"\nmiaotui: what was learned is in {job.folder}; go on with --resume")
            raise
    _finish(args, settings, done)
    return 0


def _settings(args: Namespace) -> DistilSettings:
    from miaotui.compress.distil.settings import DistilSettings

    return DistilSettings(
        minutes=args.minutes,
        steps=args.steps,
        lora_rank=args.lora,
        learning_rate=args.rate,
        first_layer=args.from_layer,
        sequence_tokens=args.sequence,
        batch_sequences=args.batch,
        text_share=args.text_share,
        on_policy=args.on_policy,
        kind=args.type,
        seed=args.seed,
    )


def _line(progress: Progress) -> str:
    from miaotui.formats.store_progress import format_duration

    rate = progress.tokens / max(progress.seconds, 1e-9)
    return (
        f"step {progress.steps}, {progress.tokens:,} tokens, {rate:.0f}/s, KL {progress.loss:.4f}, "
        f"{format_duration(progress.seconds)} spent, ETA {format_duration(progress.left_s)}"
    )


def _show(progress: Progress) -> None:
    print(f"\r{_line(progress)}\x1b[K", end="", file=sys.stderr, flush=True)


def _tell(progress: Progress) -> None:
    if progress.steps % LINE_STEPS == 0:
        note(_line(progress))


def _finish(args: Namespace, settings: DistilSettings, done: Distilled) -> None:
    from miaotui.formats.store_progress import format_bytes

    at = done.position
    document: dict[str, Any] = {
        "output": str(done.written.path),
        "output_bytes": done.written.output_bytes,
        "steps": at.steps,
        "tokens": at.tokens,
        "seconds": round(at.seconds, 1),
        "first_kl": at.first_loss,
        "kl": at.loss,
        "weights_trained": done.num_learning,
        "arithmetic": done.arithmetic,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    if args.json:
        print_json(document)
        return
    how = "full" if settings.lora_rank is None else f"factors of rank {settings.lora_rank}"
    pairs = [
        ("size", format_bytes(done.written.output_bytes)),
        ("divergence per token", f"{at.first_loss:.4f} → {at.loss:.4f} nats on what it learned from"),
        ("trained", f"{done.num_learning:,} weights ({how}, {done.arithmetic})"),
        ("steps", f"{at.steps}, {at.tokens:,} tokens, {at.seconds / 60:.1f} min"),
        ("peak memory", format_bytes(document["peak_memory_bytes"])),
    ]
    if sys.stderr.isatty():
        note("")
    print_pairs(str(done.written.path), pairs)
