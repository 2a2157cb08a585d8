"""Models ordered by cost: a small one answers, and a gate says whether that suffices or a larger one is asked."""

from miaotui.adaptive.cascade.asking import Asking
from miaotui.adaptive.cascade.calibrating import Calibration, calibrate
from miaotui.adaptive.cascade.cascade import Cascade
from miaotui.adaptive.cascade.case import Case, Labelled, collect
from miaotui.adaptive.cascade.evaluation import Outcome, evaluate
from miaotui.adaptive.cascade.gate import Gate, digests
from miaotui.adaptive.cascade.gate_file import load_gate, save_gate
from miaotui.adaptive.cascade.models import open_models
from miaotui.adaptive.cascade.signals import SIGNALS, Signal

__all__ = [
    "SIGNALS",
    "Asking",
    "Calibration",
    "Cascade",
    "Case",
    "Gate",
    "Labelled",
    "Outcome",
    "Signal",
    "calibrate",
    "collect",
    "digests",
    "evaluate",
    "load_gate",
    "open_models",
    "save_gate",
]
