"""From floats to a file's block types, and methods that choose the codes."""

from __future__ import annotations

from collections.abc import Mapping

from miaotui.compress.quantize import rtn
from miaotui.compress.quantize.method import Method

METHODS: Mapping[str, Method] = {"rtn": rtn}
