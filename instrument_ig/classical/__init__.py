"""What needs no network: three classifiers on mean MFCC vectors, and a map of those vectors."""

from instrument_ig.classical.classifiers import CLASSIFIERS, fit_predict, time_mean
from instrument_ig.classical.embedding import tsne

__all__ = ["CLASSIFIERS", "fit_predict", "time_mean", "tsne"]
