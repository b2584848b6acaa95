"""The classical models of Senatori and Nardone (2025), Section 3.5, by scikit-learn."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NEIGHBOURS = 5


def _logistic_regression(seed: int, _notes: int) -> BaseEstimator:
    # Scaled, L-BFGS ends after tens of iterations; on raw coefficients it is stopped at 1000.
    regression = LogisticRegression(max_iter=1000, class_weight="balanced", random_state=seed)
    return make_pipeline(StandardScaler(), regression)


def _k_nearest_neighbours(_seed: int, notes: int) -> BaseEstimator:
    return KNeighborsClassifier(min(NEIGHBOURS, notes), weights="distance")


def _random_forest(seed: int, _notes: int) -> BaseEstimator:
    return RandomForestClassifier(n_estimators=200, n_jobs=-1, random_state=seed)


CLASSIFIERS: dict[str, Callable[[int, int], BaseEstimator]] = {
    "logistic_regression": _logistic_regression,
    "k_nearest_neighbours": _k_nearest_neighbours,
    "random_forest": _random_forest,
}


def time_mean(images: Float[np.ndarray, "B T F"]) -> Float[np.ndarray, "B F"]:
    """Return one vector per image: its mean over time.

    Numerics: summed in float64 and rounded to the images' dtype.
    """
    return images.mean(axis=1, dtype=np.float64).astype(images.dtype)


def fit_predict(
    name: str,
    vectors: Float[np.ndarray, "N F"],
    labels: Int[np.ndarray, " N"],
    unseen: Float[np.ndarray, "M F"],
    seed: int = 0,
) -> Int[np.ndarray, " M"]:
    """Train one of `CLASSIFIERS` and return the classes it gives to unseen vectors.

    Logistic regression: at most 1000 iterations, classes weighted by N / (K n_k), vectors scaled by
    the training set's mean and deviation. k nearest neighbours: 5 (or N, if smaller), weighted by
    the inverse of their distance. Random forest: 200 trees, all cores.

    Args:
      name: A key of `CLASSIFIERS`.
      vectors: Training vectors, one row per note.
      labels: Class index of each training vector; at least two classes.
      unseen: Vectors to classify; none gives none.
      seed: Of the solver and of the trees.

    Raises:
      ValueError: unknown name; training labels of one class only.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"classifier {name!r} is none of {', '.join(CLASSIFIERS)}")
    if len(found := np.unique(labels)) < 2:
        raise ValueError(f"a classifier needs two classes, the training labels hold {found}")
    if not len(unseen):
        return labels[:0]
    return CLASSIFIERS[name](seed, len(labels)).fit(vectors, labels).predict(unseen)
