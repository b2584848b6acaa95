import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.models.layers import BatchNormPool, Row, max_pool


def pool_by_hand(maps, change):
    """The pooled maps, and `change` routed to the first largest value of each window, by loops."""
    batch, frames, bins, channels = maps.shape
    high, wide = min(2, frames), min(2, bins)
    pooled = np.zeros((batch, frames // high, bins // wide, channels), np.float32)
    routed = np.zeros_like(maps)
    for b, t, f, c in np.ndindex(pooled.shape):
        cells = list(
            itertools.product(range(t * high, t * high + high), range(f * wide, f * wide + wide))
        )
        winner = max(cells, key=lambda cell: maps[b, *cell, c])  # the first of equals
        pooled[b, t, f, c] = maps[b, *winner, c]
        routed[b, *winner, c] += change[b, t, f, c]
    return pooled, routed


@pytest.mark.parametrize(
    "shape", [(2, 4, 6, 3), (1, 5, 7, 2), (2, 6, 1, 2), (1, 1, 5, 2), (1, 1, 1, 1)]
)
@pytest.mark.parametrize("values", ["distinct", "ties", "constant"])
def test_pool_and_its_derivative_are_those_by_hand(shape, values, rng):
    maps = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    maps = {"distinct": maps, "ties": maps % 3, "constant": np.zeros_like(maps)}[values]
    pooled, pull_back = jax.vjp(max_pool, jnp.asarray(maps))
    change = rng.normal(size=pooled.shape).astype(np.float32)
    expected, routed = pool_by_hand(maps, change)
    # Exact: values are copied, never computed.
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(pull_back(jnp.asarray(change))[0], routed)


def test_pool_maps_compiles_and_differentiates_forwards(rng):
    maps = jnp.asarray(rng.integers(0, 3, (5, 1, 6, 7, 2)), jnp.float32)
    change = jnp.asarray(rng.normal(size=maps.shape), jnp.float32)
    total = lambda one: (max_pool(one) ** 2).sum()
    gradients = jax.jit(jax.vmap(jax.grad(total)))(maps)
    np.testing.assert_array_equal(gradients, jnp.stack([jax.grad(total)(one) for one in maps]))
    _, slope = jax.jvp(jax.vmap(total), (maps,), (change,))
    # Sums of 24 numbers of order 1 in float32.
    np.testing.assert_allclose(slope, (gradients * change).sum((1, 2, 3, 4)), rtol=1e-5)


def test_second_derivative_of_the_pool(rng):
    maps = jnp.asarray(rng.permutation(12).reshape(1, 4, 3, 1), jnp.float32)
    _, winners = pool_by_hand(np.asarray(maps), np.ones((1, 2, 1, 1), np.float32))
    hessian = jax.hessian(lambda maps: (max_pool(maps) ** 2).sum())(maps).reshape(12, 12)
    np.testing.assert_array_equal(hessian, np.diag(2 * winners.ravel()))


@pytest.mark.permissive  # linen's mask is broadcast
@pytest.mark.parametrize("train", [False, True])
def test_normalising_after_pooling_is_linen_s_normalisation_before_it(train, rng):
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    maps, change, there = draw(4, 6, 7, 5), draw(4, 3, 3, 5), jnp.array([True, False, True, True])
    params = {"scale": jnp.array([1.0, -2, 0.5, -0.1, 3]), "bias": draw(5)}
    running = {"mean": draw(5), "var": jnp.exp(draw(5))}
    ours = Row((BatchNormPool("norm"),))
    linen = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3)

    def found(params, maps):
        variables = {"params": {"norm": params}, "batch_stats": {"norm": running}}
        (pooled, _), state = ours.apply(variables, maps, train, there, mutable=["batch_stats"])
        return jnp.vdot(change[there], pooled[there]), (pooled, state["batch_stats"]["norm"])

    def expected(params, maps):
        variables = {"params": params, "batch_stats": running}
        normalised, state = linen.apply(
            variables, maps, mask=there[:, None, None, None], mutable=["batch_stats"]
        )
        pooled = nn.max_pool(normalised, (2, 2), (2, 2))
        return jnp.vdot(change[there], pooled[there]), (pooled, state["batch_stats"])

    (_, values), derivatives = jax.value_and_grad(found, (0, 1), has_aux=True)(params, maps)
    (_, others), references = jax.value_and_grad(expected, (0, 1), has_aux=True)(params, maps)
    compare = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)  # sums of 126 terms
    jax.tree.map(compare, (values, derivatives), (others, references))
