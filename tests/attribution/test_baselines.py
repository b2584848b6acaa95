import numpy as np
import pytest
from scipy import ndimage

from instrument_ig.attribution import baselines


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, 20, 9)).astype(np.float32)


def test_zero_and_mean(images):
    assert (baselines.zero(images) == 0).all()
    assert baselines.zero(images).shape == (20, 9)
    # float32 sums of values of size 1, in another order
    np.testing.assert_allclose(baselines.mean(images), images.mean(0), atol=1e-6)


def test_blurring_is_scipys(images):
    expected = [
        ndimage.gaussian_filter(image.astype(float), 2.0, mode="nearest", truncate=3.0)
        for image in images
    ]
    # float32 against double: thirteen terms below 1 along each axis
    np.testing.assert_allclose(baselines.blurred(images, 2.0), expected, atol=1e-6)


def test_blurring_keeps_constants_and_removes_detail(images):
    constant = np.full((1, 20, 9), -3.0, np.float32)
    # weights that add up to one within float32, along both axes
    np.testing.assert_allclose(baselines.blurred(constant), constant, rtol=1e-5)
    assert baselines.blurred(images, 8.0).std() < 0.3 * images.std()


def test_bad_widths_are_refused(images):
    with pytest.raises(ValueError, match=r"sigma=0\.0"):
        baselines.blurred(images, 0.0)
