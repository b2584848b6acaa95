"""Images at one scale: mean 0 and deviation 1, per bin of the training notes or per clip."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32


class Standardiser(NamedTuple):
    """What training notes say about every bin; kept with the model."""

    mean: Float32[np.ndarray, " F"]
    deviation: Float32[np.ndarray, " F"]  # zero: the bin is constant


def fit(images: Float32[np.ndarray, "B T F"]) -> Standardiser:
    """Measure mean and standard deviation of every bin over notes and frames.

    Raises:
      ValueError: no images, or NaN or infinite ones.

    Numerics: summed in float64, image by image, where equal float32 numbers add without rounding
    (2^29 of them do): the deviation of a constant bin is exactly zero.
    Cost: one pass and one image in float64.
    """
    if not images.size:
        raise ValueError(f"no images to standardise: shape {images.shape}")
    count = images.shape[0] * images.shape[1]
    mean = sum(image.sum(axis=0, dtype=np.float64) for image in images) / count
    squares = sum(np.square(image - mean).sum(axis=0) for image in images)
    deviation = np.sqrt(squares / count)
    if not np.isfinite(deviation).all():
        raise ValueError("images to standardise hold NaN or infinite values")
    return Standardiser(mean.astype(np.float32), deviation.astype(np.float32))


def apply(
    standardiser: Standardiser, images: Float32[np.ndarray, "*B T F"]
) -> Float32[np.ndarray, "*B T F"]:
    """Return (images - mean) / deviation; constant bins are zero.

    Numerics: a bin that is constant in training stays zero whatever another image holds there:
    no model has learnt anything from it.
    Cost: one image batch in memory.
    """
    return (images - standardiser.mean) * _inverse(standardiser.deviation)


def per_clip(images: Float32[np.ndarray, "*B T F"]) -> Float32[np.ndarray, "*B T F"]:
    """Standardise every image by its own mean and deviation over both axes; constant: zeros.

    Numerics: as `fit`.
    References: Senatori and Nardone, Explainable Instrument Classification, 2025, section 3.
    """
    mean = images.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    deviation = images.std(axis=(-2, -1), keepdims=True, dtype=np.float64)
    return ((images - mean) * _inverse(deviation)).astype(np.float32)


def _inverse(deviation: np.ndarray) -> np.ndarray:
    return np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
