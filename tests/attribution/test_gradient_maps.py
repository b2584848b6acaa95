import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.attribution import input_x_gradient, saliency, smooth_grad
from instrument_ig.types import Split


@pytest.fixture
def images(rng):
    return rng.normal(size=(4, 5, 3)).astype(np.float32)


cube = lambda image: (image**3).sum()


def test_saliency_is_the_size_of_the_gradient(images):
    maps = saliency(lambda image: -cube(image), images)
    np.testing.assert_allclose(maps.values, 3 * images**2, rtol=1e-6)  # one rounding or two


def test_input_x_gradient_is_the_first_term(images):
    baseline = np.full((5, 3), 0.5, np.float32)
    maps = input_x_gradient(cube, images, baseline)
    # float32 products up to 60
    np.testing.assert_allclose(maps.values, (images - 0.5) * 3 * images**2, atol=1e-5)
    residual = maps.values.sum((1, 2)) - ((images**3).sum((1, 2)) - (baseline**3).sum())
    np.testing.assert_allclose(maps.residual, residual, atol=1e-4)  # sums of 15 cubes up to 30


def test_smooth_grad_averages_over_noise(images, key):
    """E[3 (x + e)^2] = 3 x^2 + 3 sigma^2; five standard errors of the mean of the draws."""
    draws, noise = 4000, 0.1
    maps = smooth_grad(cube, images, key=key, draws=draws, noise=noise)
    sigma = (noise * (images.max((1, 2)) - images.min((1, 2)))).reshape(-1, 1, 1)
    expected = 3 * images**2 + 3 * sigma**2
    deviation = np.sqrt(36 * images**2 * sigma**2 + 18 * sigma**4)
    assert (np.abs(maps.values - expected) < 5 * deviation / np.sqrt(draws) + 1e-5).all()
    assert (maps.steps == draws).all()


def test_smooth_grad_depends_on_the_key_and_nothing_else(images, key, batches_of):
    explain = lambda key: smooth_grad(cube, images, key=key, draws=6).values
    first = explain(key)
    np.testing.assert_array_equal(explain(key), first)
    assert np.abs(first - explain(jax.random.key(1))).max() > 1e-3
    for size in (1, 4):
        batches_of(size)
        # sums of six terms of one sign, in another order
        np.testing.assert_allclose(explain(key), first, rtol=1e-6)


def test_linear_scores_have_the_weight_as_smooth_gradient(images, key):
    weight = jnp.arange(15.0).reshape(5, 3)
    maps = smooth_grad(lambda image: (weight * image).sum(), images, key=key, draws=3)
    # the mean of three equal gradients
    np.testing.assert_allclose(maps.values, np.tile(weight, (4, 1, 1)), rtol=1e-6)


def test_the_whole_of_a_split_counts(images, key):
    split = Split(jnp.sin, cube)
    whole = lambda image: cube(jnp.sin(image))
    zero = np.zeros((5, 3), np.float32)
    for method in (saliency, input_x_gradient, smooth_grad):
        cut, uncut = (method(score, images, zero, key=key).values for score in (split, whole))
        np.testing.assert_allclose(cut, uncut, atol=1e-6)  # float32 gradients up to 3


def test_sensitivities_promise_no_completeness(images, key):
    for maps in (saliency(cube, images), smooth_grad(cube, images, key=key, draws=2)):
        assert np.isnan(maps.residual).all()
        assert not maps.converged.any()


def test_bad_arguments_are_refused(images, key):
    with pytest.raises(ValueError, match="draws=0"):
        smooth_grad(cube, images, key=key, draws=0)
    with pytest.raises(ValueError, match="noise=-1"):
        smooth_grad(cube, images, key=key, noise=-1.0)
    with pytest.raises(ValueError, match="NaN"):
        saliency(cube, np.full_like(images, np.nan))
