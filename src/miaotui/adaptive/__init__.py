"""The cheapest path that suffices: which one is taken, and how many tokens are drafted on it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miaotui.adaptive.adaptive_drafter import AdaptiveDrafter
    from miaotui.adaptive.drafters.past import PastAnswers
    from miaotui.adaptive.planner import Planner

__all__ = ["AdaptiveDrafter", "PastAnswers", "Planner"]

_HOMES = {
    "AdaptiveDrafter": "miaotui.adaptive.adaptive_drafter",
    "PastAnswers": "miaotui.adaptive.drafters.past",
    "Planner": "miaotui.adaptive.planner",
}


def __getattr__(name: str) -> object:
    """Import what is asked for: every server has the planner's policies, few have a drafter."""
    if name not in _HOMES:
        raise AttributeError(f"module 'miaotui.adaptive' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
