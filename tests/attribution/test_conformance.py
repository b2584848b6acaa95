"""What every method of the table keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.attribution import AT_A_TAP, ATTRIBUTIONS
from instrument_ig.types import Split

B, T, F = 3, 8, 6


@pytest.fixture
def images(rng):
    return rng.normal(size=(B, T, F)).astype(np.float32)


@pytest.fixture
def split(rng):
    kernel = jnp.asarray(rng.normal(size=(3, 3, 1, 4)) / 3, jnp.float32)
    dimensions = ("NHWC", "HWIO", "NHWC")

    def prefix(image):
        return jax.lax.conv_general_dilated(
            image[None, ..., None],
            kernel.astype(image.dtype),
            (2, 2),
            "SAME",
            dimension_numbers=dimensions,
        )[0]

    return Split(prefix, lambda maps: jnp.tanh(jax.nn.relu(maps)).sum())


@pytest.fixture(params=ATTRIBUTIONS)
def explain(request, split, key):
    zero = jnp.zeros((T, F))
    method = ATTRIBUTIONS[request.param]
    return lambda images: method(split, images, zero, key=key)


def test_one_map_per_input_in_its_dtype(explain, images):
    maps = explain(images)
    assert maps.values.shape == images.shape
    assert maps.values.dtype == jnp.float32
    assert maps.residual.shape == maps.steps.shape == maps.converged.shape == (B,)
    assert np.abs(maps.values).max() > 0


def test_jit_changes_nothing(explain, images):
    for eager, jitted in zip(explain(images), jax.jit(explain)(images), strict=True):
        np.testing.assert_allclose(eager, jitted, atol=1e-5)  # sums of some hundred roundings


def test_batch_equals_single(explain, images):
    """The first input: a later one draws other noise where noise is drawn."""
    np.testing.assert_allclose(explain(images).values[0], explain(images[:1]).values[0], atol=1e-6)


def test_constant_images_give_finite_maps(explain):
    for level in (0.0, -5.0, 30.0):
        assert np.isfinite(explain(jnp.full((1, T, F), level)).values).all()


def test_equal_calls_give_equal_bits(explain, images):
    np.testing.assert_array_equal(explain(images).values, explain(images).values)


def test_double_precision_in_and_out(explain, images):
    with jax.enable_x64(True):
        values = explain(np.asarray(images, np.float64)).values
        assert values.dtype == jnp.float64


def test_completeness_is_claimed_by_those_that_keep_it(split, images, key):
    zero = np.zeros((T, F), np.float32)
    for name, method in ATTRIBUTIONS.items():
        maps = method(split, images, zero, key=key)
        difference = jax.vmap(lambda x: split.rest(split.prefix(x)))(images) - split.rest(
            split.prefix(zero)
        )
        if name in ("integrated_gradients", "input_x_gradient"):
            expected = maps.values.sum((1, 2)) - difference
            np.testing.assert_allclose(maps.residual, expected, atol=1e-5)
        else:
            assert np.isnan(maps.residual).all()
        assert (name in AT_A_TAP) == ("cam" in name)
