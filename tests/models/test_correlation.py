"""Values, derivatives and mapping against `lax.conv_general_dilated`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from instrument_ig.models import correlate

NEAR = {"rtol": 1e-4, "atol": 1e-4}  # sums of up to 189 products of order 1, in another order


def reference(maps, kernels):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(maps, kernels, (1, 1), "SAME", dimension_numbers=numbers)


def draw(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("kernel_shape", [(3, 3, 4, 6), (3, 5, 1, 2), (1, 1, 3, 3)])
def test_values_and_derivatives_are_those_of_jax(kernel_shape, rng):
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
def test_mapped_over_maps_kernels_or_both(axes, rng):
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


def test_inside_a_loop(rng):
    maps, kernels = draw(rng, 3, 2, 9, 7, 4), draw(rng, 3, 3, 4, 6)

    def in_a_loop(apply):
        step = lambda total, one: (total + (apply(one, kernels) ** 2).sum(), None)
        return jax.jit(jax.grad(lambda maps: lax.scan(step, jnp.zeros(()), maps)[0]))(maps)

    np.testing.assert_allclose(in_a_loop(correlate), in_a_loop(reference), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_other_precisions_are_kept(dtype, rng):
    with jax.enable_x64(dtype == jnp.float64):
        maps, kernels = draw(rng, 1, 4, 4, 2).astype(dtype), draw(rng, 3, 3, 2, 3).astype(dtype)
        found = jax.jit(lambda *both: correlate(*both))(maps, kernels)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, jax.jit(reference)(maps, kernels))


def test_a_gradient_in_a_loop_is_made_of_three_correlations():
    def in_a_loop(maps, kernels):
        step = lambda total, one: (total + (correlate(one, kernels) ** 2).sum(), None)
        return lax.scan(step, jnp.zeros(()), maps)[0]

    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(2, 1, 8, 8, 3), (3, 3, 3, 4)])
    lines = jax.jit(jax.grad(in_a_loop, (0, 1))).lower(*shapes).as_text("hlo").splitlines()
    convolutions = [line for line in lines if " convolution(" in line]
    assert len(convolutions) == 3
    # the dimension order that is fast in loops
    assert all("dim_labels=b01f_01io->b01f" in line for line in convolutions)
