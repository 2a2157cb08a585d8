"""Tensors of a model file as they lie on disk: memory-mapped, read-only, in the file's own block types."""

from __future__ import annotations

import enum
import math
import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ModelFileError, ModelNotFoundError


class TensorType(enum.IntEnum):
    """Element types that miaotui reads, numbered as in the GGUF specification (ggml type ids)."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    IQ4_NL = 20
    IQ4_XS = 23
    BF16 = 30

    @property
    def block_weights(self) -> int:
        """Consecutive weights of a row that share one block."""
        return _BLOCKS[self][0]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return _BLOCKS[self][1]


_BLOCKS: dict[int, tuple[int, int]] = {
    TensorType.F32: (1, 4),
    TensorType.F16: (1, 2),
    TensorType.BF16: (1, 2),
    TensorType.Q4_0: (32, 18),
    TensorType.Q4_1: (32, 20),
    TensorType.Q5_0: (32, 22),
    TensorType.Q5_1: (32, 24),
    TensorType.Q8_0: (32, 34),
    TensorType.Q2_K: (256, 84),
    TensorType.Q3_K: (256, 110),
    TensorType.Q4_K: (256, 144),
    TensorType.Q5_K: (256, 176),
    TensorType.Q6_K: (256, 210),
    TensorType.IQ4_NL: (32, 18),
    TensorType.IQ4_XS: (256, 136),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `shape` in NumPy order (rows = outputs, columns = inputs; one-dimensional for vectors).

    `data` is a read-only uint8 view of the memory map, exactly the tensor's bytes, of any alignment.
    """

    name: str
    type: TensorType
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    @property
    def num_weights(self) -> int:
        """Product of the shape."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.data.nbytes

    def to_float32(self) -> NDArray[np.float32]:
        """A new float32 array of `shape`, bit for bit what the format's reference implementation gives."""
        from miaotui import _native

        return _native.dequantize(int(self.type), self.data, self.num_weights).reshape(self.shape)


class MappedFile:
    """A regular file mapped read-only. Views keep the mapping alive, so it needs no closing.

    Hazard: shortening the file while it is mapped kills this process with SIGBUS; replace model files by renaming.
    Raises ModelNotFoundError when there is no such file, ModelFileError when it is empty or not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # A FIFO would block an ordinary open for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ModelNotFoundError(f"{path}: no such file; check the path, or `miaotui pull` the model.") from None
        except (OSError, ValueError) as error:
            raise ModelFileError(f"{path}: cannot be opened ({error}); check its permissions.") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileError(f"{path}: is not a regular file; give the path of a model file.")
            if status.st_size == 0:
                raise ModelFileError(f"{path}: is empty; download it again.")
            self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be mapped into memory ({error}).") from None
        finally:
            os.close(descriptor)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._map, dtype=np.uint8)
        self.identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        """Changes whenever the file is written or replaced."""

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return self.bytes.nbytes

    def release(self, view: NDArray[np.uint8]) -> None:
        """Drops the pages that `view` touches from this process; they are read again when used again."""
        if view.nbytes == 0:
            return
        start = view.ctypes.data - self.bytes.ctypes.data
        first_page = start // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, first_page, start + view.nbytes - first_page)


class Weights(Mapping[str, Tensor]):
    """Named tensors of one or several mapped files. Views outlive this object."""

    def __init__(self, files: Iterable[tuple[MappedFile, Iterable[Tensor]]]) -> None:
        """Raises ModelFileError when two files hold a tensor of the same name."""
        self._tensors: dict[str, tuple[Tensor, MappedFile]] = {}
        self._files: list[MappedFile] = []
        for file, tensors in files:
            self._files.append(file)
            for tensor in tensors:
                if tensor.name in self._tensors:
                    other = self._tensors[tensor.name][1].path
                    raise ModelFileError(f"{file.path}: tensor {tensor.name!r} is also in {other}; remove one of them.")
                self._tensors[tensor.name] = (tensor, file)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def files(self) -> tuple[MappedFile, ...]:
        """The files that hold the tensors."""
        return tuple(self._files)

    @property
    def file_bytes(self) -> int:
        """Length of all files together, headers included."""
        return sum(file.size for file in self._files)

    def release(self, name: str) -> None:
        """Tells the system that the pages of tensor `name` are not needed for now (they are read again when used)."""
        tensor, file = self._tensors[name]
        file.release(tensor.data)
