"""What metrics refuse, and that half and double precision are what they say."""

import jax
import numpy as np
import pytest

from instrument_ig.metrics import (
    LINEAR,
    METRICS,
    emd,
    js_divergence,
    kl_divergence,
    pairwise_js,
    pairwise_kl,
    split_emd,
    to_distribution,
)
from instrument_ig.metrics.arguments import checked_pair, checked_sets, precise

pytestmark = pytest.mark.permissive("OTT fails strict promotion")


@pytest.fixture
def maps(rng):
    return np.asarray(to_distribution(rng.normal(size=(5, 6, 4)).astype(np.float32)))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda p: checked_pair(p[0], p[0, :1]),
            r"p and q .* one shape, got \(6, 4\) and \(1, 4\)",
        ),
        (lambda p: checked_pair(p, p), r"p must be one image \[T, F\], got shape \(5, 6, 4\)"),
        (lambda p: checked_sets(p[0], None), r"P must be .* got shape \(6, 4\)"),
        (lambda p: checked_sets(p[:0], None), r"one map or more .* \(0, 6, 4\)"),
        (lambda p: checked_sets(p, p[:0]), r"one map or more"),
        (lambda p: checked_sets(p, p.swapaxes(1, 2)), r"got \(6, 4\) and \(4, 6\)"),
        (lambda p: precise(p[0, 0]), r"images \[..., T, F\], got shape \(4,\)"),
        (lambda p: precise((p[0] > 0).astype(int)), "floating-point numbers, got int"),
        (lambda p: emd(p[0], p[1], axes=(LINEAR,)), "axes must be two"),
        (
            lambda p: precise(np.ma.masked_less(p, 0.1), "P"),
            "P .* got a masked",
        ),
        (lambda p: split_emd(p[0], p[1], tolerance=float("nan")), "tolerance must be positive"),
    ],
)
def test_what_would_be_broadcast_or_rounded_is_refused(maps, check, message):
    with pytest.raises(ValueError, match=message):
        check(maps)


def test_half_precision_is_computed_in_single(rng):
    half = rng.normal(size=(2, 12, 3)).astype(np.float16)
    p, q = to_distribution(half)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)  # float16 would be off by 1e-3
    for measure in (js_divergence, kl_divergence, lambda p, q: emd(p, q, solver="flow").lower):
        small = np.asarray(p, np.float16), np.asarray(q, np.float16)
        wide = tuple(values.astype(np.float32) for values in small)
        np.testing.assert_array_equal(measure(*small), measure(*wide))


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_bytes_does_not_matter(maps, name):
    metric = METRICS[name]
    for measure in (lambda p: metric.pair(p[0], p[1]), lambda p: metric.pairwise(p[:2])):
        swapped, native = measure(maps.astype(">f4")), measure(maps)
        for one, other in zip(jax.tree.leaves(swapped), jax.tree.leaves(native), strict=True):
            np.testing.assert_array_equal(one, other)


def test_double_precision_stays_double(maps):
    with jax.enable_x64(True):
        double = maps.astype(np.float64)
        for pairwise in (pairwise_js, pairwise_kl):
            assert pairwise(double).dtype == np.float64
        for values in (maps, double):  # float32 maps are allowed there as well
            found = emd(values[0], values[1])
            assert found.cost.dtype == values.dtype
            assert 0 < found.lower <= found.upper
