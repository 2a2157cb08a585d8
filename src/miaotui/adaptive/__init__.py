"""The cheapest path that suffices: drafted tokens, for now."""

from miaotui.adaptive.adaptive_drafter import AdaptiveDrafter

__all__ = ["AdaptiveDrafter"]
