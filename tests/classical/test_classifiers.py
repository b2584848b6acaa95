"""Oracles: numpy's mean, hand-made neighbours, scikit-learn's class weights, a planted optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.utils.class_weight import compute_class_weight

from instrument_ig.classical import CLASSIFIERS, fit_predict, time_mean
from instrument_ig.classical.classifiers import _logistic_regression


@pytest.fixture
def blobs(rng):
    """Three well separated classes in 40 dimensions, the last one rare."""
    labels = np.repeat([0, 1, 2], [30, 30, 6])
    centres = rng.normal(size=(3, 40)) * 20
    vectors = centres[labels] + rng.normal(size=(len(labels), 40))
    return vectors.astype(np.float32), labels, centres.astype(np.float32)


def test_time_mean_is_the_mean_over_frames(rng):
    images = rng.normal(size=(3, 7, 5)).astype(np.float32)
    expected = [[sum(image[:, place]) / 7 for place in range(5)] for image in images]
    np.testing.assert_allclose(time_mean(images), expected, rtol=1e-5, atol=1e-6)  # float32 sums
    assert time_mean(images).dtype == np.float32


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_separated_classes_are_learned(name, blobs):
    vectors, labels, centres = blobs
    np.testing.assert_array_equal(fit_predict(name, vectors, labels, centres), [0, 1, 2])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_same_seed_same_answer(name, rng):
    vectors, labels = rng.normal(size=(60, 4)).astype(np.float32), rng.integers(0, 3, 60)
    unseen = rng.normal(size=(200, 4)).astype(np.float32)
    first, second = (fit_predict(name, vectors, labels, unseen, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_nothing_to_classify(name, blobs):
    vectors, labels, _ = blobs
    assert fit_predict(name, vectors, labels, vectors[:0]).shape == (0,)


def test_neighbours_are_weighted_by_inverse_distance():
    # Of the five neighbours of 0, three of class 1 lie at distance 4 and two of class 0 at
    # distance 1: 2 / 1 > 3 / 4, where plain counting would say 1.
    labels = np.array([0, 0, 1, 1, 1])
    unseen = np.zeros((1, 1), np.float32)
    vectors = np.array([[1.0], [-1.0], [4.0], [-4.0], [4.0]], np.float32)
    assert fit_predict("k_nearest_neighbours", vectors, labels, unseen)[0] == 0
    nearer = np.array([[1.0], [-1.0], [1.2], [-1.2], [1.2]], np.float32)
    assert fit_predict("k_nearest_neighbours", nearer, labels, unseen)[0] == 1


def test_five_neighbours_vote():
    # On a circle about 0, all at one distance, 2 : 3; the sixth, of the first class, is farther.
    labels = np.array([0, 0, 1, 1, 1, 0, 0])
    angles = np.linspace(0, 6, 7)
    vectors = np.array([[1.0]] * 5 + [[1.01]] * 2) * np.stack(
        [np.cos(angles), np.sin(angles)], axis=1
    )
    unseen = np.zeros((1, 2), np.float32)
    assert fit_predict("k_nearest_neighbours", vectors.astype(np.float32), labels, unseen)[0] == 1


def test_fewer_notes_than_neighbours(rng):
    vectors = rng.normal(size=(3, 4)).astype(np.float32)
    labels = np.array([0, 1, 2])
    np.testing.assert_array_equal(
        fit_predict("k_nearest_neighbours", vectors, labels, vectors), labels
    )


def test_logistic_regression_solves_its_balanced_problem(rng):
    """The optimum of the weighted, L2-penalised loss, found by SciPy."""
    labels = rng.permutation(np.repeat([0, 1, 2], [40, 15, 5]))
    vectors = rng.normal(size=(60, 2)) * 50 + labels[:, None] * 40 + 1000
    scaled = (vectors - vectors.mean(0)) / vectors.std(0)
    weights = compute_class_weight("balanced", classes=np.arange(3), y=labels)[labels]

    def loss(flat):
        coefficients, intercepts = flat[:6].reshape(2, 3), flat[6:]
        scores = scaled @ coefficients + intercepts
        wrong = logsumexp(scores, axis=1) - scores[np.arange(60), labels]
        return (weights * wrong).sum() + 0.5 * (coefficients**2).sum()

    best = minimize(loss, np.zeros(9), method="BFGS", options={"gtol": 1e-6}).x
    scores = scaled @ best[:6].reshape(2, 3) + best[6:]
    expected = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    found = _logistic_regression(0, 60).fit(vectors, labels).predict_proba(vectors)
    # L-BFGS stops at a gradient of 1e-4, with curvatures of order one.
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_forest_has_200_trees_on_all_cores():
    forest = CLASSIFIERS["random_forest"](0, 10)
    assert (forest.n_estimators, forest.n_jobs) == (200, -1)


def test_unknown_name_and_single_class_are_refused(blobs):
    vectors, labels, centres = blobs
    with pytest.raises(ValueError, match="'svm' is none of logistic_regression, "):
        fit_predict("svm", vectors, labels, centres)
    with pytest.raises(ValueError, match=r"two classes, the training labels hold \[0\]"):
        fit_predict("random_forest", vectors, labels * 0, centres)
