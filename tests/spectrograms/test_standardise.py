"""Standardisation against scikit-learn's scaler and by its defining property."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from instrument_ig.spectrograms import standardise


@pytest.fixture
def images(rng):
    scale = np.array([1.0, 30.0, 0.01, 5.0], np.float32)
    return (rng.normal(size=(20, 7, 4)) * scale - 80).astype(np.float32)


def test_agrees_with_the_scaler_of_scikit_learn(images):
    fitted = standardise.fit(images)
    scaler = StandardScaler().fit(images.reshape(-1, 4).astype(np.float64))
    np.testing.assert_allclose(fitted.mean, scaler.mean_, rtol=1e-6)  # float32 holds seven digits
    np.testing.assert_allclose(fitted.deviation, scaler.scale_, rtol=1e-6)
    expected = scaler.transform(images.reshape(-1, 4)).reshape(images.shape)
    # -80 has steps of 8e-6 in float32, and the third bin has a deviation of 0.01.
    np.testing.assert_allclose(standardise.apply(fitted, images), expected, atol=2e-3)


def test_training_images_get_mean_zero_and_deviation_one(images):
    standardised = standardise.apply(standardise.fit(images), images)
    assert standardised.dtype == np.float32
    # As above.
    np.testing.assert_allclose(standardised.mean(axis=(0, 1)), 0, atol=2e-3)
    np.testing.assert_allclose(standardised.std(axis=(0, 1)), 1, atol=2e-3)


def test_one_image_is_as_the_batch(images):
    fitted = standardise.fit(images)
    batch = standardise.apply(fitted, images)
    np.testing.assert_array_equal(standardise.apply(fitted, images[3]), batch[3])


@pytest.mark.parametrize("constant", [0.0, -80.0, 0.1, 1e-12])
def test_constant_bins_are_zero(images, constant):
    images[..., 2] = constant
    fitted = standardise.fit(images)
    assert fitted.deviation[2] == 0
    images[..., 2] += 1  # whatever another image holds there
    assert not standardise.apply(fitted, images)[..., 2].any()
    assert standardise.apply(fitted, images)[..., :2].any()


def test_clips_are_standardised_by_themselves(images):
    images[4] = -80.0
    images[5] = 0.1
    standardised = standardise.per_clip(images)
    assert standardised.dtype == np.float32
    assert not standardised[4:6].any()
    clip = images[0].astype(np.float64)
    np.testing.assert_allclose(standardised[0], (clip - clip.mean()) / clip.std(), atol=1e-5)
    np.testing.assert_array_equal(standardise.per_clip(images[7]), standardised[7])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_training_images_are_refused(images, value):
    images[3, 2, 1] = value
    with (
        pytest.raises(ValueError, match="hold NaN or infinite"),
        np.errstate(invalid="ignore"),
    ):
        standardise.fit(images)


def test_no_training_images_are_refused():
    with pytest.raises(ValueError, match=r"no images to standardise: shape \(0, 3, 2\)"):
        standardise.fit(np.zeros((0, 3, 2), np.float32))


def test_nan_stays_nan(images):
    fitted = standardise.fit(images)
    images[0, 0, 0] = np.nan
    standardised = standardise.apply(fitted, images)
    assert np.isnan(standardised[0, 0, 0])
    assert np.isnan(standardised).sum() == 1


def test_it_imports_without_librosa():
    code = (
        "import sys, instrument_ig.spectrograms.standardise;"
        "sys.exit(any(name in sys.modules for name in ('librosa', 'sklearn', 'scipy.sparse')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
