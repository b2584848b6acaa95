"""Both routes against `lax.conv_general_dilated`: oneDNN's call, and XLA's own convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from instrument_ig import onednn
from instrument_ig.models import correlation

NEAR = {"rtol": 1e-4, "atol": 1e-4}  # sums of up to 189 products of order 1, in another order


@pytest.fixture(params=["oneDNN", "XLA"])
def route(request):
    return request.param


@pytest.fixture
def correlate(route):
    if route == "XLA":
        yield correlation.correlate
    elif not onednn.is_there():
        pytest.skip("no oneDNN in this jaxlib")
    else:
        with onednn.allowed():
            yield correlation.correlate


def reference(maps, kernels):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(maps, kernels, (1, 1), "SAME", dimension_numbers=numbers)


def draw(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("kernel_shape", [(3, 3, 4, 6), (3, 5, 1, 2), (1, 1, 3, 3)])
def test_values_and_derivatives_are_those_of_jax(correlate, kernel_shape, rng):
    maps, kernels = draw(rng, 3, 9, 7, kernel_shape[2]), draw(rng, *kernel_shape)
    ours, pull_back = jax.vjp(correlate, maps, kernels)
    theirs, reference_pull_back = jax.vjp(reference, maps, kernels)
    np.testing.assert_allclose(ours, theirs, **NEAR)
    change = draw(rng, *ours.shape)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **NEAR),
        pull_back(change),
        reference_pull_back(change),
    )
    curvature = lambda apply: jax.grad(
        lambda k: (jax.grad(lambda m: (apply(m, k) ** 2).sum())(maps) ** 2).sum()
    )
    ours, theirs = curvature(correlate)(kernels), curvature(reference)(kernels)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(jnp.abs(theirs).max()))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (2, 3)])
def test_mapped_over_maps_kernels_or_both(correlate, axes, rng):
    stack = lambda array, axis: array if axis is None else jnp.stack([array, 2 * array - 1], axis)
    maps, kernels = draw(rng, 3, 9, 7, 4), draw(rng, 3, 3, 4, 6)
    maps, kernels = map(stack, (maps, kernels), axes)
    mapped = lambda apply: jax.vjp(jax.vmap(apply, axes), maps, kernels)
    (ours, pull_back), (theirs, reference_pull_back) = mapped(correlate), mapped(reference)
    np.testing.assert_allclose(ours, theirs, **NEAR)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **NEAR),
        pull_back(ours),
        reference_pull_back(ours),
    )


def test_inside_a_loop(correlate, rng):
    maps, kernels = draw(rng, 3, 2, 9, 7, 4), draw(rng, 3, 3, 4, 6)

    def in_a_loop(apply):
        step = lambda total, one: (total + (apply(one, kernels) ** 2).sum(), None)
        return jax.jit(jax.grad(lambda maps: lax.scan(step, jnp.zeros(()), maps)[0]))(maps)

    np.testing.assert_allclose(in_a_loop(correlate), in_a_loop(reference), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_other_precisions_are_kept(correlate, dtype, rng):
    with jax.enable_x64(dtype == jnp.float64):
        maps, kernels = draw(rng, 1, 4, 4, 2).astype(dtype), draw(rng, 3, 3, 2, 3).astype(dtype)
        found = jax.jit(lambda *both: correlate(*both))(maps, kernels)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, jax.jit(reference)(maps, kernels))


def calls(function, *shapes):
    """Return how often a program calls oneDNN, and its convolutions."""
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    lines = jax.jit(function).lower(*shapes).as_text("hlo").splitlines()
    return sum(onednn.CALL in line for line in lines), [x for x in lines if " convolution(" in x]


def test_a_gradient_in_a_loop_is_made_of_three_correlations(route, correlate):
    def in_a_loop(maps, kernels):
        step = lambda total, one: (total + (correlate(one, kernels) ** 2).sum(), None)
        return lax.scan(step, jnp.zeros(()), maps)[0]

    n_calls, convolutions = calls(jax.grad(in_a_loop, (0, 1)), (2, 1, 8, 8, 3), (3, 3, 3, 4))
    assert (n_calls, len(convolutions)) == ((2, 1) if route == "oneDNN" else (0, 3))
    # the dimension order that is fast in loops
    assert all("dim_labels=b01f_01io->b01f" in line for line in convolutions)
