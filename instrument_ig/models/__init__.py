"""Image to logits, as pure functions: the networks of both papers."""

from instrument_ig.models.chen import chen
from instrument_ig.models.correlation import correlate
from instrument_ig.models.inference import logits
from instrument_ig.models.layers import max_pool
from instrument_ig.models.scores import score, split
from instrument_ig.models.senatori import senatori

MODELS = {"chen": chen, "senatori": senatori}

__all__ = ["MODELS", "chen", "correlate", "logits", "max_pool", "score", "senatori", "split"]
