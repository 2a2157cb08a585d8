"""Writes a GGUF model with its 4-bit matrices in another type, for peers that know only some types.

usage: requantize.py MODEL OUT.gguf [TYPE]      (MODEL: name or path; default type: Q4_0)
Every matrix in a 4-bit type is dequantized and rounded anew by the gguf package; everything else is copied as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

from common import resolve

FOUR_BITS = {GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q4_K}


def requantize(source: Path, target: Path, kind: GGMLQuantizationType = GGMLQuantizationType.Q4_0) -> None:
    """Write `target`. Raises what the gguf package raises for a source it cannot read."""
    reader = GGUFReader(source)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    part = target.with_suffix(".part")
    writer = GGUFWriter(part, str(fields.pop("general.architecture").contents()))
    for name, field in fields.items():
        element = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=element)
    for tensor in reader.tensors:
        data, raw = tensor.data, tensor.tensor_type
        if raw in FOUR_BITS:
            data, raw = quants.quantize(quants.dequantize(data, raw), kind), kind
        writer.add_tensor(tensor.name, data, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    requantize(
        resolve(sys.argv[1]), Path(sys.argv[2]), GGMLQuantizationType[sys.argv[3] if len(sys.argv) == 4 else "Q4_0"]
    )
