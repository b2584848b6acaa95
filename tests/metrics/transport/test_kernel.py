import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from instrument_ig.metrics import CATEGORICAL, CIRCULAR, LINEAR
from instrument_ig.metrics.transport.ground import cost_matrix, ground_cost
from instrument_ig.metrics.transport.kernel import form_for, log_kernel

SHAPES = [
    ((5, 300), (LINEAR, LINEAR)),  # several blocks, a last one that is cut
    ((126, 12), (LINEAR, CIRCULAR)),
    ((7, 6), (LINEAR, CATEGORICAL)),
    ((12, 9), (CIRCULAR, LINEAR)),
    ((5, 1), (LINEAR, LINEAR)),
]


def dense(log_weights, ground, epsilon):
    time, frequency = (-cost_matrix(along) / epsilon for along in ground)
    wide = np.asarray(log_weights, np.float64)
    wide = logsumexp(wide[:, None, :] + frequency, axis=-1)
    return logsumexp(wide[None] + time[:, :, None], axis=1)


@pytest.mark.parametrize("epsilon", [0.05, 0.01, 1e-3, 1e-4])
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_matches_the_dense_matrix_at_any_epsilon(shape, axes, epsilon, rng):
    ground = ground_cost(shape, axes)
    log_weights = rng.uniform(-2 / epsilon, 0, shape).astype(np.float32)
    forms = {"recursion", form_for(ground, epsilon)}
    results = [log_kernel(jnp.asarray(log_weights), ground, epsilon, form=form) for form in forms]
    # arguments of up to 2 / epsilon nats, rounded to 6e-8 of themselves at each of 9 + 3 steps
    for result in results:
        np.testing.assert_allclose(
            result, dense(log_weights, ground, epsilon), atol=1e-6 + 1e-6 / epsilon, rtol=0
        )


@pytest.mark.parametrize("epsilon", [0.05, 0.0105])
def test_the_largest_kernels_that_float32_has_room_for(epsilon):
    ground = ground_cost((126, 128))
    form = form_for(ground, epsilon)
    assert form == {0.05: "product", 0.0105: "blocks"}[epsilon]
    assert form_for(ground, epsilon / 5) != form
    for log_weights in (jnp.zeros((126, 128)), jnp.full((126, 128), -jnp.inf).at[0, 0].set(0)):
        result = log_kernel(log_weights, ground, epsilon, form=form)
        # sums of 16,128 positive terms, and exponents of up to 200 nats rounded to 1e-7
        np.testing.assert_allclose(result, dense(log_weights, ground, epsilon), atol=5e-5)


def test_a_traced_epsilon_serves_them_all(rng):
    ground = ground_cost((9, 30))
    log_weights = jnp.asarray(rng.uniform(-9, 0, (9, 30)), jnp.float32)
    compiled = jax.jit(lambda epsilon: log_kernel(log_weights, ground, epsilon))
    for epsilon in (1.0, 0.03, 1e-4):
        np.testing.assert_allclose(
            compiled(epsilon), dense(log_weights, ground, epsilon), atol=1e-6 + 5e-7 / epsilon
        )
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("epsilon", [0.05, 1e-3])
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_a_point_reaches_every_cell_at_its_cost(shape, axes, epsilon):
    ground = ground_cost(shape, axes)
    source = jnp.full(shape, -jnp.inf).at[2, 0].set(0)
    distance = cost_matrix(ground[0])[2][:, None] + cost_matrix(ground[1])[0]
    result = -epsilon * log_kernel(source, ground, epsilon)
    np.testing.assert_allclose(result, distance, atol=1e-6, rtol=4e-6)  # as above


def test_nothing_at_all_stays_nothing():
    empty = jnp.full((3, 300), -jnp.inf)
    assert np.isneginf(log_kernel(empty, ground_cost((3, 300)), 0.01)).all()


def test_batches_are_independent(rng):
    ground = ground_cost((6, 5), (LINEAR, CIRCULAR))
    batch = jnp.asarray(rng.uniform(-9, 0, (2, 3, 6, 5)), jnp.float32)
    single = jnp.stack([jnp.stack([log_kernel(x, ground, 0.1) for x in row]) for row in batch])
    # the matrix products may be blocked differently
    np.testing.assert_allclose(log_kernel(batch, ground, 0.1), single, atol=1e-5)
