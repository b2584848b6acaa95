import jax
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from instrument_ig.metrics.transport.emd_1d import emd_1d, emd_frequency, emd_time
from instrument_ig.metrics.transport.ground import (
    CATEGORICAL,
    CIRCULAR,
    LINEAR,
    ground_cost,
)

AXES = {"linear": LINEAR, "circular": CIRCULAR, "categorical": CATEGORICAL}


def distributions(rng, *shape):
    maps = rng.exponential(size=shape) * (rng.uniform(size=shape) < 0.6)
    return (maps / maps.sum((-2, -1), keepdims=True)).astype(np.float32)


def test_along_a_line_it_is_that_of_scipy(rng):
    p, q = distributions(rng, 2, 9, 13)
    for emd, axis, n in ((emd_time, 1, 9), (emd_frequency, 0, 13)):
        at = np.arange(n) / (n - 1)
        a, b = p.sum(axis, dtype=np.float64), q.sum(axis, dtype=np.float64)
        expected = wasserstein_distance(at, at, a, b)
        np.testing.assert_allclose(emd(p, q), expected, rtol=1e-5)  # float32 sums of 13 cells


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("bins", [1, 2, 5, 12])
def test_every_kind_is_the_exact_transport(kind, bins, exact, rng):
    ground = ground_cost((1, bins), (LINEAR, AXES[kind]), (1.0, 3.0))
    p, q = rng.dirichlet(np.ones(bins), 2).astype(np.float32)
    found = emd_1d(p, q, ground[1])
    np.testing.assert_allclose(found, exact(p, q, ground), rtol=1e-5, atol=1e-6)  # float32 sums


def test_batches_under_jit_give_the_same_and_equal_maps_give_zero(rng):
    p, q = distributions(rng, 2, 3, 6, 12)
    options = {"axes": (LINEAR, CIRCULAR), "extents": (4.0, 6.0)}
    many = jax.jit(lambda p, q: emd_frequency(p, q, **options))(p, q)
    single = [emd_frequency(p[i], q[i], **options) for i in range(3)]
    np.testing.assert_allclose(many, single, rtol=1e-6)  # fusion may round once differently
    np.testing.assert_array_equal(emd_frequency(p, p, **options), 0)
    np.testing.assert_array_equal(emd_time(p, p), 0)
