"""How much KV memory there may be, and how long a context that makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miaotui.engine.admission import ContextLimit
from miaotui.engine.pages import BLOCK_TOKENS, num_blocks_for
from miaotui.errors import CapacityError, ConfigError, ContextLengthError

DEFAULT_BYTES = 1 << 30
"""KV memory when none is asked for and the machine has plenty; pages cost nothing until they are used or come next."""
DEFAULT_SHARE = 0.25
"""Of the memory available now, at most this share by default."""


@dataclass(frozen=True, slots=True)
class KvPlan:
    """The pool to build and the context it allows."""

    num_blocks: int
    block_bytes: int
    context: ContextLimit

    @property
    def total_bytes(self) -> int:
        """Bytes of all pages."""
        return self.num_blocks * self.block_bytes


def plan_kv(
    block_bytes: int,
    model_context_length: int,
    *,
    context_length: int | None,
    kv_memory_bytes: int | None,
    max_sequences: int,
    available_bytes: int,
) -> KvPlan:
    """Pages for up to `max_sequences` full contexts within the budget, and the longest context that fits.

    block_bytes: one page of 16 tokens over all layers. Without `kv_memory_bytes` the budget is 1 GiB or a quarter of
    `available_bytes`, whichever is less, but what an explicit `context_length` needs once. Raises ContextLengthError
    when that exceeds the model's, CapacityError when it does not fit the memory.
    """
    wanted = model_context_length if context_length is None else context_length
    if wanted < 1:
        raise ConfigError(f"context_length must be at least 1, not {wanted}.")
    if wanted > model_context_length:
        raise ContextLengthError(
            f"context_length {wanted} is more than this model's {model_context_length}; use at most that."
        )
    budget_bytes = kv_memory_bytes
    if budget_bytes is None:
        budget_bytes = min(DEFAULT_BYTES, int(available_bytes * DEFAULT_SHARE))
        if context_length is not None:
            budget_bytes = max(budget_bytes, num_blocks_for(context_length) * block_bytes)
    limit_bytes = min(budget_bytes, available_bytes)
    num_blocks = min(limit_bytes // block_bytes, num_blocks_for(wanted) * max_sequences)
    fitting = min(num_blocks * BLOCK_TOKENS, wanted)
    if num_blocks < 1 or (context_length is not None and fitting < context_length):
        raise CapacityError(_message(wanted if context_length else BLOCK_TOKENS, block_bytes, fitting, limit_bytes))
    return KvPlan(num_blocks, block_bytes, ContextLimit(fitting, model_context_length))


def _message(wanted: int, block_bytes: int, fitting: int, limit_bytes: int) -> str:
    from miaotui.formats.store_progress import format_bytes

    needed_bytes = num_blocks_for(wanted) * block_bytes
    return (
        f"a context of {wanted} tokens needs {format_bytes(needed_bytes)} of KV memory, but "
        f"{format_bytes(limit_bytes)} may be used, enough for {fitting} tokens; the least is "
        f"{format_bytes(block_bytes)}, for {BLOCK_TOKENS}: lower context_length, "
        "raise kv_memory_bytes, or choose a smaller kv_dtype."
    )


def available_memory_bytes() -> int:
    """Memory this process can still take: the least of the machine's available and the control group's remaining."""
    machine = _meminfo_bytes("MemAvailable")
    for limit_file, usage_file in _CGROUP_FILES:
        limit, usage = _number(limit_file), _number(usage_file)
        if limit is not None and usage is not None:
            machine = min(machine, max(limit - usage, 0))
    return machine


def total_memory_bytes() -> int:
    """Memory of the machine, or the control group's limit where that is lower."""
    limits = [limit for limit_file, _ in _CGROUP_FILES if (limit := _number(limit_file)) is not None]
    return min(_meminfo_bytes("MemTotal"), *limits) if limits else _meminfo_bytes("MemTotal")


_CGROUP_FILES = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _meminfo_bytes(field: str) -> int:
    """A field of /proc/meminfo; 2 GiB where there is no such file."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 2 << 30
