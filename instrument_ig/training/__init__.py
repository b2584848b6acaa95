"""Parameters from data: states in, states out."""

from instrument_ig.training.loop import History, TrainState, start, train
from instrument_ig.training.objective import Examples, class_weights

__all__ = ["Examples", "History", "TrainState", "class_weights", "start", "train"]
