import numpy as np
import pytest

from instrument_ig.metrics.transport.ground import (
    CATEGORICAL,
    CIRCULAR,
    LINEAR,
    cost_matrix,
    diameter,
    ground_cost,
)
from instrument_ig.types import Axis

AXES = {"linear": LINEAR, "circular": CIRCULAR, "categorical": CATEGORICAL}


def by_hand(kind, bins, extent):
    cost = np.zeros((bins, bins))
    for i in range(bins):
        for j in range(bins):
            apart = abs(i - j)
            if kind == "linear":
                cost[i, j] = extent * apart / (bins - 1)
            elif kind == "circular":
                cost[i, j] = extent * min(apart, bins - apart) / (bins // 2)
            else:
                cost[i, j] = extent * (i != j)
    return cost


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("bins", [2, 3, 7, 12])
@pytest.mark.parametrize("extent", [1.0, 4.0])
def test_distances_are_those_of_the_definition(kind, bins, extent):
    time, frequency = ground_cost((bins, bins), (AXES[kind], LINEAR), (extent, 1.0))
    expected = by_hand(kind, bins, extent)
    # float64 rounding of one product
    np.testing.assert_allclose(cost_matrix(time), expected, rtol=1e-14)
    np.testing.assert_allclose(cost_matrix(frequency), by_hand("linear", bins, 1), rtol=1e-14)
    np.testing.assert_allclose(diameter((time, frequency)), expected.max() + 1, rtol=1e-14)


@pytest.mark.parametrize("kind", AXES)
def test_one_bin_costs_nothing(kind):
    time, _ = ground_cost((1, 5), (AXES[kind], LINEAR))
    assert cost_matrix(time) == 0
    assert time.edge == 0


def test_bad_axes_are_refused():
    with pytest.raises(ValueError, match="'spiral'"):
        ground_cost((3, 3), (Axis("spiral"), LINEAR))
    with pytest.raises(ValueError, match="0.0"):
        ground_cost((3, 3), extents=(0.0, 1.0))
    with pytest.raises(ValueError, match="nan"):
        ground_cost((3, 3), extents=(1.0, float("nan")))
    with pytest.raises(ValueError, match="2 positions on an axis of 3 bins"):
        ground_cost((3, 3), (Axis("linear", (0.0, 1.0)), LINEAR))
