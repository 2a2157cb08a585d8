<<<<<<< HEAD
"""A frozen encoder as a classifier that texts leave early: heads behind its layers, thresholds that keep a floor."""
=======
"""A frozen text encoder as a classifier that texts leave early: heads behind its layers, thresholds that keep a floor."""
>>>>>>> cc4d710 (Cut encoders into parts that texts may leave, and end answers once they are complete (unchecked))

from miaotui.adaptive.exits.choosing import Calibration
from miaotui.adaptive.exits.early_classifier import Classified, EarlyClassifier
from miaotui.adaptive.exits.evaluation import Outcome, evaluate
from miaotui.adaptive.exits.exits import Exits
from miaotui.adaptive.exits.exits_file import load_exits, save_exits
from miaotui.adaptive.exits.head import Head
<<<<<<< HEAD
from miaotui.adaptive.exits.training import Learned, Trained, learn, train
=======
from miaotui.adaptive.exits.training import Trained, train
>>>>>>> cc4d710 (Cut encoders into parts that texts may leave, and end answers once they are complete (unchecked))

__all__ = [
    "Calibration",
    "Classified",
    "EarlyClassifier",
    "Exits",
    "Head",
<<<<<<< HEAD
    "Learned",
    "Outcome",
    "Trained",
    "evaluate",
    "learn",
=======
    "Outcome",
    "Trained",
    "evaluate",
>>>>>>> cc4d710 (Cut encoders into parts that texts may leave, and end answers once they are complete (unchecked))
    "load_exits",
    "save_exits",
    "train",
]
