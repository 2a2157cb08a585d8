"""From floats to a file's block types, and methods that choose the codes."""

from __future__ import annotations

from collections.abc import Mapping

from miaotui.compress.quantize import gptq, rtn, search
from miaotui.compress.quantize.method import Method

METHODS: Mapping[str, Method] = {"rtn": rtn, "search": search, "gptq": gptq}
NEED_CALIBRATION = frozenset({"gptq"})
"""Methods that would do what another one does if nothing were known of any matrix's inputs."""
