"""llama.cpp's quantizer, in its own environment; started by quantizers.py.

usage: quantizers_worker.py SOURCE.gguf TARGET.gguf FILE_TYPE HEAD_TYPE EMBEDDING_TYPE [IMPORTANCE]
All matrices get the file's type but the head and the embedding, which get their own; with "-" for both each gets what
llama.cpp's mixture of that name gives it. Prints the seconds it took.
"""

from __future__ import annotations

import ctypes
import sys
import time

import llama_cpp

from array_file import load_arrays


def importance_list(path: str) -> tuple[object, list[object]]:
    """The importance matrix of a file of float32 vectors by tensor name, and what must live as long."""
    vectors = load_arrays(path)
    entries = (llama_cpp.llama_model_imatrix_data * (len(vectors) + 1))()  # a null name ends it
    kept: list[object] = [entries]
    for entry, (name, values) in zip(entries, vectors.items(), strict=False):
        encoded = name.encode()
        kept += [values, encoded]
        entry.name, entry.size = encoded, values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return ctypes.cast(entries, ctypes.POINTER(llama_cpp.llama_model_imatrix_data)), kept


def main() -> None:
    source, target, file_type, head_type, embedding_type, *importance = sys.argv[1:]
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{file_type}")
    if head_type != "-":
        parameters.output_tensor_type = getattr(llama_cpp, f"GGML_TYPE_{head_type}")
        parameters.token_embedding_type = getattr(llama_cpp, f"GGML_TYPE_{embedding_type}")
        parameters.pure = True
    kept: list[object] = []
    if importance:
        parameters.imatrix, kept = importance_list(importance[0])
    begin = time.monotonic()
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)) != 0:
        sys.exit(f"llama.cpp could not quantize {source}.")
    print(f"seconds {time.monotonic() - begin:.1f}")
    del kept


if __name__ == "__main__":
    main()
