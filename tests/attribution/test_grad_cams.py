import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.attribution import grad_cam, grad_cam_plus_plus, integrated_grad_cam
from instrument_ig.attribution.grad_cam import upsample
from instrument_ig.types import Split

METHODS = (grad_cam, grad_cam_plus_plus, integrated_grad_cam)


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, 6, 4)).astype(np.float32)


@pytest.fixture
def heads(rng):
    return rng.normal(size=(6, 4, 2)).astype(np.float32)


@pytest.fixture
def split(heads):
    """Two feature maps, x^2 and 1 - x, at full resolution, read out by tanh."""
    prefix = lambda image: jnp.stack([image**2, 1 - image], -1)
    return Split(prefix, lambda maps: (jnp.tanh(maps) * heads).sum())


def by_hand(image, heads):
    """The tap's maps and the score's gradient there, in NumPy."""
    maps = np.stack([image**2, 1 - image], -1).astype(float)
    return maps, heads / np.cosh(maps) ** 2


@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_by_hand(images, split, heads, relu):
    found = grad_cam(split, images, relu=relu).values
    for image, values in zip(images, found, strict=True):
        maps, gradient = by_hand(image, heads)
        cam = maps @ gradient.mean((0, 1))
        # float32 tanh and a mean of 24 values of size 1
        np.testing.assert_allclose(values, np.maximum(cam, 0) if relu else cam, atol=1e-5)
        assert (cam < 0).any()


def test_grad_cam_plus_plus_by_hand(images, split, heads):
    for image, values in zip(images, grad_cam_plus_plus(split, images).values, strict=True):
        maps, g = by_hand(image, heads)
        share = g**2 / (2 * g**2 + g**3 * maps.sum((0, 1)))
        cam = maps @ (share * np.maximum(g, 0)).sum((0, 1))
        np.testing.assert_allclose(values, np.maximum(cam, 0), rtol=1e-3, atol=1e-4)  # a quotient


def test_grad_cam_plus_plus_shares_nothing_where_the_gradient_is_zero(images):
    split = Split(lambda image: image[..., None], lambda maps: maps[0, 0, 0])
    values = grad_cam_plus_plus(split, images).values
    assert np.isfinite(values).all()


def test_integrated_grad_cam_by_hand(images, split, heads):
    baseline = np.full((6, 4), 0.3, np.float32)
    found = integrated_grad_cam(split, images, baseline, steps=4, rule="midpoint").values
    for image, values in zip(images, found, strict=True):
        expected = 0
        for alpha in (0.125, 0.375, 0.625, 0.875):
            maps, gradient = by_hand(baseline + alpha * (image - baseline), heads)
            change = maps - by_hand(baseline, heads)[0]
            expected += np.maximum(change @ gradient.sum((0, 1)), 0) / 4
        # sums of 24 gradients in float32, where 1 / cosh^2 loses digits
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_integrated_grad_cam_averages_over_baselines(images, split, rng):
    several = rng.normal(size=(2, *images.shape)).astype(np.float32)
    average = integrated_grad_cam(split, images, several, steps=3).values
    apart = [integrated_grad_cam(split, images, own, steps=3).values for own in several]
    np.testing.assert_allclose(average, np.mean(apart, 0), atol=1e-5)  # another order of sums


def test_upsampling_keeps_constants_and_ramps():
    # weights that add up to one within float32
    np.testing.assert_allclose(upsample(jnp.full((3, 2), 7.0), (12, 9)), 7, rtol=1e-6)
    ramp = upsample(jnp.tile(jnp.arange(4.0)[:, None], (1, 4)), (8, 8))
    np.testing.assert_allclose(np.diff(ramp[1:-1, 0]), 0.5, atol=1e-6)  # half a cell each


@pytest.mark.parametrize("method", METHODS)
def test_maps_have_the_axes_of_the_input(method, images):
    pooled = Split(
        lambda image: jnp.stack([image.reshape(3, 2, 2, 2).mean((1, 3))] * 3, -1),
        lambda maps: (maps**2).sum(),
    )
    maps = method(pooled, images, np.zeros((6, 4), np.float32))
    assert maps.values.shape == images.shape
    assert np.isnan(maps.residual).all()
    assert not maps.converged.any()


@pytest.mark.parametrize("method", METHODS)
def test_a_score_without_feature_maps_is_refused(method, images):
    zero = np.zeros((6, 4), np.float32)
    with pytest.raises(ValueError, match="need a Split"):
        method(lambda image: image.sum(), images, zero)
    with pytest.raises(ValueError, match=r"the tap is \(24,\)"):
        method(Split(jnp.ravel, jnp.sum), images, zero)
    with pytest.raises(ValueError, match=r"not \(2, 3\)"):
        method(Split(lambda x: x[..., None], jnp.sum), images[0, :2, :3], zero)
