import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from instrument_ig.attribution import integrated_gradients
from instrument_ig.attribution.checks import (
    dependence,
    infidelity,
    insertion_deletion,
    max_sensitivity,
    randomisation,
    rank_correlation,
    relative_residual,
)
from instrument_ig.attribution.checks.infidelity import _rectangle
from instrument_ig.types import Attribution

B, T, F = 6, 10, 8


@pytest.fixture
def images(rng):
    return rng.normal(size=(B, T, F)).astype(np.float32)


@pytest.fixture
def weight(rng):
    return rng.normal(size=(T, F)).astype(np.float32)


@pytest.fixture
def score(weight):
    return lambda image: jnp.tanh(weight * image).sum()


@pytest.fixture
def values(score, images):
    """Good maps: integrated gradients of a separable score are exact."""
    return integrated_gradients(score, images, np.zeros((T, F)), steps=20).values


@pytest.fixture
def shuffled(values, rng):
    """The same values in other cells."""
    flat = np.asarray(values).reshape(B, -1)
    return rng.permuted(flat, axis=1).reshape(values.shape)


ZERO = np.zeros((T, F), np.float32)


def test_rank_correlation_is_scipys(rng):
    """With many ties, which is where ranks are easily wrong."""
    maps = rng.integers(0, 5, size=(3, T, F)).astype(np.float32)
    others = rng.integers(0, 5, size=(3, T, F)).astype(np.float32)
    expected = [
        stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps, others, strict=True)
    ]
    # float32 sums of 80 products of ranks, in units of their own size
    np.testing.assert_allclose(rank_correlation(maps, others), expected, atol=1e-6)
    np.testing.assert_allclose(rank_correlation(maps, maps), 1, atol=1e-6)
    np.testing.assert_allclose(rank_correlation(maps, -maps), -1, atol=1e-6)
    assert np.isnan(rank_correlation(maps, np.ones_like(maps))).all()


def test_dependence_is_the_mean_over_pairs(rng):
    maps = rng.normal(size=(3, B, T, F)).astype(np.float32)
    pairs = [rank_correlation(maps[i], maps[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(dependence(maps), np.mean(pairs, 0), atol=1e-6)  # float32, size 1
    with pytest.raises(ValueError, match="at least two"):
        dependence(maps[:1])


def plain_curves(score, image, baseline, importance, levels):
    order = np.argsort(-importance.ravel(), kind="stable")
    insertion, deletion = [], []
    for level in range(levels + 1):
        first = order[: int(np.round(level / levels * image.size))]
        inserted, deleted = baseline.ravel().copy(), image.ravel().copy()
        inserted[first], deleted[first] = image.ravel()[first], baseline.ravel()[first]
        insertion.append(score(inserted.reshape(image.shape)))
        deletion.append(score(deleted.reshape(image.shape)))
    return np.array(insertion), np.array(deletion)


def test_insertion_and_deletion_equal_a_plain_loop(score, images, values, key):
    levels, baseline = 7, np.full((T, F), 0.1, np.float32)
    found = insertion_deletion(score, images, baseline, values, key=key, levels=levels)
    assert tuple(found) == ("map", "random", "energy")
    for name, importance in (("map", np.asarray(values)), ("energy", np.abs(images - baseline))):
        for b in range(B):
            curves = plain_curves(score, images[b], baseline, importance[b], levels)
            # here and below: scores are float32 sums of 80 terms of size 1
            np.testing.assert_allclose(found[name].insertion[b], curves[0], atol=1e-5)
            np.testing.assert_allclose(found[name].deletion[b], curves[1], atol=1e-5)
    for curves in found.values():  # whatever the order, the ends are those of the score
        np.testing.assert_allclose(curves.insertion[:, 0], score(baseline), atol=1e-5)
        np.testing.assert_allclose(curves.insertion[:, -1], jax.vmap(score)(images), atol=1e-5)
        np.testing.assert_allclose(curves.deletion[:, 0], jax.vmap(score)(images), atol=1e-5)
        areas = np.trapezoid(curves.insertion, curves.fraction)
        np.testing.assert_allclose(curves.insertion_area, areas, atol=1e-5)


def test_curves_tell_a_good_map_from_a_shuffled_one(score, images, values, shuffled, key):
    good = insertion_deletion(score, images, ZERO, values, key=key)
    bad = insertion_deletion(score, images, ZERO, shuffled, key=key)
    assert (good["map"].insertion_area > bad["map"].insertion_area).all()
    assert (good["map"].deletion_area < bad["map"].deletion_area).all()
    assert (good["map"].insertion_area > good["random"].insertion_area).all()
    assert (good["map"].insertion_area > good["energy"].insertion_area).all()
    np.testing.assert_array_equal(good["random"].insertion, bad["random"].insertion)


def test_infidelity_is_zero_for_maps_that_predict(images, values, score, key):
    """A separable score falls by exactly the map's sum over the patch."""
    found = infidelity(score, images, ZERO, values, key=key)
    assert (found.error < 1e-6).all()  # differences of scores near 10
    assert (np.abs(found.unexplained) < 1e-5).all()  # the same over falls of size 1
    halved = infidelity(score, images, ZERO, values / 2, key=key)
    assert (np.abs(halved.unexplained) < 1e-5).all()  # another unit, the same map
    assert (halved.error > 1e-3).all()


def test_infidelity_equals_a_plain_loop(images, shuffled, score, key):
    draws, b = 20, 2
    own, fall, predicted = jax.random.split(key, B)[b], [], []
    for draw in range(draws):
        inside = np.asarray(_rectangle(jax.random.fold_in(own, draw), (T, F)))
        fall.append(score(images[b]) - score(np.where(inside, 0, images[b]).astype(np.float32)))
        predicted.append(shuffled[b][inside].sum())
    fall, predicted = np.array(fall), np.array(predicted)
    found = infidelity(score, images, ZERO, shuffled, key=key, draws=draws)
    # Squared differences of scores near 10: 1e-6 of them is 1e-5 of a fall, and its square 1e-4;
    # the unexplained share is a quotient of two such.
    np.testing.assert_allclose(found.error[b], np.mean((predicted - fall) ** 2), rtol=1e-4)
    scale = (predicted * fall).sum() / (predicted**2).sum()
    expected = np.mean((scale * predicted - fall) ** 2) / np.mean(fall**2)
    np.testing.assert_allclose(found.unexplained[b], expected, rtol=1e-3)


def test_rectangles_lie_inside_and_reach_everywhere(key):
    drawn = np.array([_rectangle(own, (T, F)) for own in jax.random.split(key, 300)])
    rows, columns = drawn.any(2), drawn.any(1)
    assert (drawn == rows[:, :, None] & columns[:, None]).all()
    for sides, size in ((rows, T), (columns, F)):
        lengths = sides.sum(1)
        assert set(lengths) == set(range(1, size // 2 + 1))
        assert (np.abs(np.diff(sides.astype(int), axis=1)).sum(1) <= 2).all()  # one run
        assert sides.any(0).all()


def test_infidelity_tells_a_good_map_from_a_shuffled_one(images, values, shuffled, score, key):
    good, bad = (infidelity(score, images, ZERO, maps, key=key) for maps in (values, shuffled))
    assert (good.error < bad.error).all()
    assert (good.unexplained < bad.unexplained).all()


def test_max_sensitivity_of_a_linear_map_is_known(images, key):
    """norm(2 e) / norm(2 x) with every cell of e below the radius."""
    radius = 0.05
    found = max_sensitivity(lambda x: 2 * x, images, 2 * images, key=key, radius=radius, draws=30)
    flat = images.reshape(B, -1)
    reach = radius * np.ptp(flat, axis=1)
    size = np.linalg.norm(flat, axis=1)
    assert (found <= reach * np.sqrt(T * F) / size).all()
    assert (found >= reach * np.sqrt(T * F / 3) / size).all()  # the mean square of uniform e
    constant = max_sensitivity(lambda x: jnp.ones_like(x), images, np.ones_like(images), key=key)
    assert (constant == 0).all()


def test_max_sensitivity_tells_a_stable_map_from_a_shuffled_one(images, values, score, key):
    def unstable(x):
        """Maps whose cells are permuted by the input's last bits."""
        order = jnp.argsort(jnp.sin(1e4 * x).reshape(len(x), -1), axis=1)
        maps = integrated_gradients(score, x, ZERO, steps=20).values.reshape(len(x), -1)
        return jnp.take_along_axis(maps, order, 1).reshape(x.shape)

    stable = lambda x: integrated_gradients(score, x, ZERO, steps=20).values
    good = max_sensitivity(stable, images, values, key=key)
    bad = max_sensitivity(unstable, images, unstable(images), key=key)
    assert (5 * good < bad).all()


def test_randomisation_tells_a_map_of_the_model_from_one_of_the_input(images, values, score, rng):
    other = rng.normal(size=(T, F)).astype(np.float32)
    randomised = {"none": score, "all": lambda image: jnp.tanh(other * image**2).sum()}
    of_model = lambda score: integrated_gradients(score, images, ZERO, steps=20).values
    found = randomisation(of_model, randomised, values)
    assert list(found) == ["none", "all"]
    np.testing.assert_allclose(found["none"], 1, atol=1e-6)  # float32 sums of 80 products
    of_input = randomisation(lambda _: jnp.asarray(images), randomised, images)
    np.testing.assert_allclose(of_input["all"], 1, atol=1e-6)  # edges of the input pass for a map
    # of absolute values, which are large where the image is, whatever the weights
    assert (found["all"] < 0.8).all()


def test_relative_residual_is_that_of_the_score_difference(images, score):
    maps = integrated_gradients(score, images, ZERO, steps=1)
    difference = np.asarray(jax.vmap(score)(images))
    expected = np.abs(maps.residual) / np.maximum(np.abs(difference), 0.01)
    # the score difference is read off the map: two float32 sums of 80 terms apart
    np.testing.assert_allclose(relative_residual(maps), expected, rtol=1e-4)


def test_bad_arguments_are_refused(images, values, score, key):
    with pytest.raises(ValueError, match=r"maps \(6, 10, 7\)"):
        insertion_deletion(score, images, ZERO, values[..., :-1], key=key)
    with pytest.raises(ValueError, match="2 baselines"):
        insertion_deletion(score, images, np.zeros((2, B, T, F)), values, key=key)
    with pytest.raises(ValueError, match="levels=0"):
        insertion_deletion(score, images, ZERO, values, key=key, levels=0)
    with pytest.raises(ValueError, match="draws=0"):
        infidelity(score, images, ZERO, values, key=key, draws=0)
    with pytest.raises(ValueError, match="radius=0"):
        max_sensitivity(lambda x: x, images, values, key=key, radius=0.0)


def test_a_map_with_a_nan_has_no_order(images, values, score, key):
    hole = values.at[1, 2, 3].set(jnp.nan)
    for correlations in (rank_correlation(hole, values), dependence(jnp.stack([values, hole]))):
        np.testing.assert_array_equal(np.isnan(correlations), np.arange(len(values)) == 1)
    curves = insertion_deletion(score, images, jnp.zeros_like(images[0]), hole, key=key, levels=4)
    np.testing.assert_array_equal(
        np.isnan(curves["map"].insertion_area), np.arange(len(values)) == 1
    )
    assert not np.isnan(curves["random"].deletion_area).any()


def test_maps_of_another_shape_are_refused(values):
    with pytest.raises(ValueError, match="not of the shape"):
        rank_correlation(values, values[:1])
    with pytest.raises(ValueError, match="not of the shape"):
        randomisation(lambda _: values[:1], {"layer": jnp.sum}, values)


def test_the_residuals_of_several_models_stay_apart(rng):
    values = jnp.asarray(rng.normal(size=(2, 2, 3, 4)), jnp.float32)
    residual = jnp.asarray([[0.1, 0.2], [0.3, 0.4]])
    counts = jnp.ones((2, 2), int), jnp.ones((2, 2), bool)
    found = relative_residual(Attribution(values, residual, *counts), floor=1e-6)
    expected = residual / np.abs(values.sum((2, 3)) - residual)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32 sums of 12 terms
