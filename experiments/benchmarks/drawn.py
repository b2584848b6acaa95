"""Images and maps drawn at random, of a few blobs each: measures that need no sound."""

import numpy as np

from instrument_ig.metrics import to_distribution

FLOOR = 1e-7


def distributions(shape: tuple[int, int], count: int, seed: int = 0) -> np.ndarray:
    """Draw maps [N, T, F] of a few blobs with heavy-tailed grain, as distributions with a floor."""
    rng = np.random.default_rng(seed)
    maps = _blobs(shape, count, rng)
    maps *= rng.gamma(0.5, size=maps.shape)
    return np.asarray(to_distribution(maps.astype(np.float32), floor=FLOOR))


def images(shape: tuple[int, int], count: int, seed: int = 0) -> np.ndarray:
    """Draw images [N, T, F] of a few blobs over noise, about as large as standardised ones.

    The first ones do not depend on how many there are.
    """
    generators = [np.random.default_rng((seed, number)) for number in range(count)]
    drawn = [3 * _blobs(shape, 1, rng)[0] + rng.normal(size=shape) for rng in generators]
    return np.array(drawn, np.float32)


def _blobs(shape, count, rng):
    at = np.mgrid[: shape[0], : shape[1]] / np.reshape(shape, (2, 1, 1))
    maps = np.zeros((count, *shape))
    for heatmap in maps:
        for _ in range(6):
            centre, width = rng.uniform(size=(2, 2, 1, 1)) * ([[[1]], [[1]]], [[[0.2]], [[0.1]]])
            away = (((at - centre) / (width + 0.01)) ** 2).sum(0)
            heatmap += rng.uniform(0.2, 1) * np.exp(-away / 2)
    return maps
