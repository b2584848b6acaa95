import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.metrics.transport.ground import (
    CATEGORICAL,
    CIRCULAR,
    LINEAR,
    cost_matrix,
    ground_cost,
)
from instrument_ig.metrics.transport.lipschitz import project_lipschitz

GROUNDS = {
    "linear": ground_cost((7, 6)),
    "rings": ground_cost((6, 7), (CIRCULAR, CIRCULAR), (4.0, 1.0)),
    "star": ground_cost((5, 6), (LINEAR, CATEGORICAL)),
    "one bin": ground_cost((9, 1)),
}
EPS = 2.0**-23  # of float32


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
def test_projection_is_the_lower_envelope_of_cones(ground, rng):
    time, frequency = map(cost_matrix, ground)
    shape, cells = (len(time), len(frequency)), len(time) * len(frequency)
    distances = (time[:, None, :, None] + frequency[:, None]).reshape(cells, cells)
    potential = rng.standard_normal((2, *shape)).astype(np.float32)
    potential[0, 0, 0] = np.inf  # does not bind
    expected = (potential.reshape(2, 1, -1) + distances).min(2).reshape(potential.shape)
    found = project_lipschitz(jnp.asarray(potential), ground)
    np.testing.assert_allclose(found, expected, atol=16 * EPS)  # a rounding per look
    np.testing.assert_allclose(project_lipschitz(found, ground), found, atol=16 * EPS)
