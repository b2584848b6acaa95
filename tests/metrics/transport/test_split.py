import numpy as np
import pytest

from instrument_ig.metrics.transport.ground import CATEGORICAL, CIRCULAR, LINEAR
from instrument_ig.metrics.transport.split import split_emd


def test_a_moved_point_costs_along_its_way():
    p, q = np.zeros((2, 9, 6), np.float32)
    p[1, 3], q[5, 3] = 1, 1
    found = split_emd(p, q, tolerance=0.01)
    # width of the interval: the flow may leave the shortest way by a hundredth of its cost
    np.testing.assert_allclose(found.time.sum(), 4 / 8, rtol=0.02)
    np.testing.assert_allclose(found.frequency.sum(), 0, atol=0.01)
    inside = found.time[1:6, 3].sum()
    np.testing.assert_allclose(inside, found.time.sum(), rtol=0.03)


@pytest.mark.parametrize("axes", [(LINEAR, LINEAR), (CIRCULAR, CATEGORICAL)])
def test_parts_add_up_to_the_upper_bound(axes, rng):
    p, q = rng.dirichlet(np.ones(9 * 6), 2).reshape(2, 9, 6).astype(np.float32)
    found = split_emd(p, q, axes=axes, tolerance=0.01)
    total = np.asarray(found.time + found.frequency, np.float64).sum()
    np.testing.assert_allclose(total, found.transport.upper, rtol=1e-6)  # one float32 sum of 54
    assert (found.time >= 0).all()
    assert (found.frequency >= 0).all()


def test_around_the_ring_both_ends_of_the_edge_pay():
    p, q = np.zeros((2, 9, 6), np.float32)
    p[4, 5], q[4, 0] = 1, 1
    found = split_emd(p, q, axes=(LINEAR, CIRCULAR), tolerance=0.01)
    ends = found.frequency[4, np.array([0, 5])]
    np.testing.assert_allclose(ends, [1 / 6, 1 / 6], atol=0.01)  # width of the interval


def test_categories_and_frames_are_told_apart():
    p, q = np.zeros((2, 9, 6), np.float32)
    p[2, 1], q[6, 4] = 1, 1
    found = split_emd(p, q, axes=(LINEAR, CATEGORICAL), tolerance=0.01)
    # as above; the way along time may lead through the hubs, whose cost is shared among the bins
    np.testing.assert_allclose(found.time.sum(), 0.5, rtol=0.02)
    np.testing.assert_allclose(found.frequency.sum(), 1, rtol=0.02)


def test_equal_maps_have_no_parts(rng):
    p = rng.dirichlet(np.ones(54)).reshape(9, 6).astype(np.float32)
    found = split_emd(p, p, tolerance=0.01)
    np.testing.assert_array_equal(found.time, 0)
    np.testing.assert_array_equal(found.frequency, 0)
