"""Do predicted probabilities mean what they say? Checked against scikit-learn and by hand."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Reliability(NamedTuple):
    """A reliability curve: notes binned by the probability of their predicted class."""

    confidence: Float[np.ndarray, " bins"]  # mean probability in the bin; NaN in an empty one
    accuracy: Float[np.ndarray, " bins"]  # share of right predictions; NaN in an empty one
    count: Int[np.ndarray, " bins"]
    error: float  # expected calibration error: mean |accuracy - confidence| over notes


def reliability(
    probabilities: Float[np.ndarray, "M K"], truth: Int[np.ndarray, " M"], bins: int = 15
) -> Reliability:
    """Compare the probability of the predicted class with how often it is right.

    Args:
      probabilities: of each class, rows sum to 1.
      truth: class indices.
      bins: number of equally wide bins (k / bins, (k + 1) / bins] of the predicted probability.

    Raises:
      ValueError: if there are no notes, or a probability is not in [0, 1].

    Numerics: sums in double precision; of equal probabilities the first class is the predicted one.
    Cost: O(M K).
    References: Guo et al., On calibration of modern neural networks, 2017, equation 3.
    """
    _check(probabilities)
    top = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == truth
    place = np.ceil(top * bins).astype(int).clip(1, bins) - 1
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=column, minlength=bins) for column in (top, right)]
    error = float(np.abs(sums[0] - sums[1]).sum() / len(top))
    confidence, accuracy = (np.where(count > 0, s / np.maximum(count, 1), np.nan) for s in sums)
    return Reliability(confidence, accuracy, count, error)


def brier(probabilities: Float[np.ndarray, "M K"], truth: Int[np.ndarray, " M"]) -> float:
    """Return the mean squared distance between probabilities and the true class, in [0, 2].

    mean over notes of sum over classes of (probability - [class is true])^2.

    Raises:
      ValueError: if there are no notes, or a probability is not in [0, 1].

    Numerics: NaN is refused with what is outside [0, 1].
    Cost: O(M K).
    References: Brier, Verification of forecasts expressed in terms of probability, 1950.
    """
    _check(probabilities)
    right = np.eye(probabilities.shape[1])[truth]
    return float(((probabilities - right) ** 2).sum(1).mean())


def _check(probabilities):
    if not probabilities.size:
        raise ValueError(f"needs at least one note, got shape {probabilities.shape}")
    low, high, rounding = probabilities.min(), probabilities.max(), 1e-6  # of a float32 softmax
    if not -rounding <= low <= high <= 1 + rounding:
        raise ValueError(f"probabilities must lie in [0, 1], got {low} to {high}")
