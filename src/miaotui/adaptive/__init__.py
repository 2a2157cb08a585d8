"""The cheapest path that suffices: which one is taken, and how many tokens are drafted on it."""

from miaotui.adaptive.adaptive_drafter import AdaptiveDrafter
from miaotui.adaptive.drafters.past import PastAnswers
from miaotui.adaptive.planner import Planner

__all__ = ["AdaptiveDrafter", "PastAnswers", "Planner"]
