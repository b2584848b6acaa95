"""Invariants of t-SNE: separated clusters stay whole, the map repeats."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from instrument_ig.classical import tsne


def test_clusters_stay_whole(rng):
    labels = np.repeat(np.arange(4), [35, 20, 15, 10])
    vectors = (rng.normal(size=(4, 40)) * 30)[labels] + rng.normal(size=(80, 40))
    places = tsne(vectors.astype(np.float32))
    # Each point's nearest other point on the map is of its own cluster.
    nearest = NearestNeighbors(n_neighbors=2).fit(places).kneighbors(places)[1][:, 1]
    np.testing.assert_array_equal(labels[nearest], labels)


def test_same_vectors_same_map(rng):
    vectors = rng.normal(size=(12, 5)).astype(np.float32)
    np.testing.assert_array_equal(tsne(vectors), tsne(vectors))


def test_few_vectors(rng):
    vectors = rng.normal(size=(4, 5)).astype(np.float32)
    assert np.isfinite(tsne(vectors)).all()
    with pytest.raises(ValueError, match="needs four vectors, not 3"):
        tsne(vectors[:3])
