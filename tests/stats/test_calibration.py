import numpy as np
import pytest
from sklearn import calibration, metrics

from instrument_ig.stats import brier, reliability


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_curve_against_scikit_learn(rng):
    probabilities, truth = softmax(rng.normal(size=(300, 4))), rng.integers(0, 4, 300)
    found = reliability(probabilities, truth, bins=8)
    right = probabilities.argmax(1) == truth
    accuracy, confidence = calibration.calibration_curve(right, probabilities.max(1), n_bins=8)
    filled = found.count > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy)
    np.testing.assert_allclose(found.confidence[filled], confidence)
    assert np.isnan(found.accuracy[~filled]).all()
    assert found.count.sum() == 300
    gaps = np.abs(accuracy - confidence) @ found.count[filled] / 300
    assert found.error == pytest.approx(gaps)


def test_error_by_hand():
    probabilities = np.array([[0.85, 0.15], [0.85, 0.15], [0.44, 0.56], [1.0, 0.0]])
    found = reliability(probabilities, np.array([0, 1, 1, 0]), bins=10)
    np.testing.assert_array_equal(found.count, [0, 0, 0, 0, 0, 1, 0, 0, 2, 1])
    # |0.56 - 1| once, |0.85 - 0.5| twice, |1 - 1| once
    assert found.error == pytest.approx((0.44 + 2 * 0.35 + 0) / 4)


def test_rounding_is_no_error():
    certain = np.array([[1 + 1e-7, -1e-7]])
    found = reliability(certain, np.array([0]), bins=4)
    np.testing.assert_array_equal(found.count, [0, 0, 0, 1])
    assert found.error == pytest.approx(0, abs=2e-7)


def test_calibrated_probabilities_have_no_error(rng):
    probabilities = softmax(2 * rng.normal(size=(40_000, 3)))
    truth = (rng.random((40_000, 1)) > probabilities.cumsum(1)).sum(1)
    # a bin of n notes is off by 0.4 / sqrt(n) in the mean: 15 bins give about 0.008
    assert reliability(probabilities, truth.clip(max=2)).error < 0.015


def test_brier_against_scikit_learn(rng):
    probabilities, truth = softmax(rng.normal(size=(50, 3))), rng.integers(0, 3, 50)
    expected = metrics.brier_score_loss(truth, probabilities, labels=[0, 1, 2])
    assert brier(probabilities, truth) == pytest.approx(expected)


@pytest.mark.parametrize("function", [reliability, brier])
def test_bad_probabilities(function):
    with pytest.raises(ValueError, match=r"shape \(0, 3\)"):
        function(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"got -0\.5 to 1\.5"):
        function(np.array([[1.5, -0.5]]), np.array([0]))
    with pytest.raises(ValueError, match="got nan to nan"):
        function(np.array([[np.nan, 1.0]]), np.array([0]))
