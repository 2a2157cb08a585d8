"""The cheapest path that suffices: drafted tokens, for now."""

from miaotui.adaptive.adaptive_drafter import AdaptiveDrafter
from miaotui.adaptive.drafters.past import PastAnswers

__all__ = ["AdaptiveDrafter", "PastAnswers"]
