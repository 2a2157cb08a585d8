"""A quantized model with a low-rank correction of its errors, in one file or in two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from miaotui.compress.adapter import Told, write_adapter, write_merged
from miaotui.compress.calibration import Calibration
from miaotui.compress.compress import Compressed, check_output, open_source
from miaotui.compress.quantize.correction import check_rank, correctable, corrections
from miaotui.compress.source import Source
from miaotui.errors import ConfigError
from miaotui.formats.gguf_write import encode_field


def adapter_beside(output: Path) -> Path:
    """Where the factors of a model go that is left as it is."""
    return output.with_suffix(".lora.gguf")


@dataclass(frozen=True, slots=True)
class Corrected:
    """What was written: the model (with the factors in it where there is no adapter beside it), and what they take."""

    compressed: Compressed
    adapter: Path | None
    factor_bytes: int


def write_corrected(
    source: Source,
    output: Path,
    rank: int,
    calibration: Calibration | None,
    quantize: Callable[[Path], Compressed],
    *,
    beside: bool = False,
    told: Told | None = None,
) -> Corrected:
    """Quantize by `quantize(path)`, then correct by factors of that rank, one matrix at a time.

    beside: leave the quantized model as it is, and write the factors as OUTPUT.lora.gguf, for engines that take
    adapters. Otherwise all is in `output`, which only miaotui runs. Either appears when all is whole. Raises
    ConfigError for a rank that is out of range or pays nowhere, and what `compress` raises.
    """
    check_rank(rank)
    check_output(source, output)
    part = output.with_name(f".{output.stem}.quantized.gguf")
    factors = adapter_beside(output) if beside else part.with_suffix(".lora.gguf")
    try:
        done = quantize(part)
        quantized = open_source(done.path)
        names = correctable(source, quantized, rank)
        if not names:
            raise ConfigError(f"no matrix was quantized for which rank {rank} pays; leave the correction out.")
        write_adapter(
            factors, quantized, names, rank, corrections(source, quantized, names, calibration, rank), told=told
        )
        factor_bytes = factors.stat().st_size
        if beside:
            part.replace(output)
            return Corrected(replace(done, path=output), factors, factor_bytes)
        write_merged(part, factors, output, {"miaotui.compress.correction": encode_field(f"rank {rank}")})
        return Corrected(replace(done, path=output, output_bytes=output.stat().st_size), None, factor_bytes)
    finally:
        part.unlink(missing_ok=True)
        if not beside:
            factors.unlink(missing_ok=True)
