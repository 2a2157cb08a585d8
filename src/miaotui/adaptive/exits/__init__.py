"""A frozen encoder as a classifier that texts leave early: heads behind its layers, thresholds that keep a floor."""

from miaotui.adaptive.exits.choosing import Calibration
from miaotui.adaptive.exits.early_classifier import Classified, EarlyClassifier
from miaotui.adaptive.exits.evaluation import Outcome, evaluate
from miaotui.adaptive.exits.exits import Exits
from miaotui.adaptive.exits.exits_file import load_exits, save_exits
from miaotui.adaptive.exits.head import Head
from miaotui.adaptive.exits.training import Learned, Trained, learn, train

__all__ = [
    "Calibration",
    "Classified",
    "EarlyClassifier",
    "Exits",
    "Head",
    "Learned",
    "Outcome",
    "Trained",
    "evaluate",
    "learn",
    "load_exits",
    "save_exits",
    "train",
]
