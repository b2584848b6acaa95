import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from instrument_ig.attribution import adaptive, integrated_gradients
from instrument_ig.machine import evaluations

T = F = 16


@pytest.fixture(scope="module")
def network():
    """Two convolutions, two max-poolings and two dense layers: as bent as a real one, but small."""
    rng = np.random.default_rng(1)
    shapes = {"one": (3, 3, 1, 4), "two": (3, 3, 4, 6), "hidden": (96, 24), "out": (24,)}
    scales = {"one": 0.6, "two": 0.4, "hidden": 0.2, "out": 0.4}
    weights = {
        name: jnp.asarray(scales[name] * rng.normal(size=shape), jnp.float32)
        for name, shape in shapes.items()
    }
    dimensions = ("NHWC", "HWIO", "NHWC")

    def block(x, kernel):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
        return lax.reduce_window(
            jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )

    def score(weights, image):
        x = block(block(image[None, ..., None], weights["one"]), weights["two"])
        x = jax.nn.relu(jnp.dot(x.reshape(-1), weights["hidden"]) - 0.3)
        return jnp.dot(x, weights["out"])

    return jax.tree_util.Partial(score, weights)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).normal(size=(200, T, F)).astype(np.float32)


@pytest.fixture(scope="module")
def twin(network, images):
    """The same network in double precision: score differences, and maps by 2048 midpoints."""
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: np.asarray(leaf, float), network)
        wide = images.astype(float)

        @jax.jit  # without a loop, in which XLA:CPU is slow
        def map_of(image):
            alphas = (np.arange(2048) + 0.5) / 2048
            return image * jax.vmap(lambda alpha: jax.grad(double)(alpha * image))(alphas).mean(0)

        differences = jax.vmap(double)(wide) - double(np.zeros((T, F)))
        return np.asarray(differences), np.array([map_of(image) for image in wide[:8]])


@pytest.mark.parametrize("tolerance", [0.01, 0.1])
def test_the_tolerance_is_honoured(network, images, twin, tolerance):
    """Judged from outside: what the cells sum to in double precision, by the twin's scores."""
    maps = integrated_gradients(network, images, np.zeros((T, F), np.float32), tolerance=tolerance)
    assert maps.converged.all()
    off = np.abs(np.asarray(maps.values, float).sum((1, 2)) - twin[0])
    # Scores of some tens, rounded to 24 bits.
    assert (off <= tolerance * np.abs(twin[0]).clip(0.01) + 1e-5).all()
    assert (off > 0.1 * tolerance * np.abs(twin[0])).mean() > 0.2  # and no more than was asked for
    assert len(np.unique(maps.steps)) > 1  # every map has its own number of points
    assert maps.steps.mean() < 20  # equal steps would need hundreds for the worst


def test_maps_are_as_good_as_by_equal_points_in_equal_number(network, images, twin):
    """Points in the worst gaps must not make the map itself worse than the midpoint rule's."""
    images, exact = images[:8], twin[1]
    zero = np.zeros((T, F), np.float32)
    found = integrated_gradients(network, images, zero, tolerance=0.01)
    mean_steps = int(np.ceil(found.steps.mean()))
    equal = integrated_gradients(network, images, zero, steps=mean_steps, rule="midpoint")
    error = lambda maps: (np.abs(maps - exact).sum((1, 2)) / np.abs(exact).sum((1, 2))).mean()
    assert error(found.values) < 1.2 * error(equal.values)
    assert error(found.values) < 0.2


def test_a_map_that_needs_more_than_it_may_says_so(network, images):
    zero = np.zeros((T, F), np.float32)
    maps = integrated_gradients(network, images[:10], zero, tolerance=1e-5, max_steps=40)
    assert not maps.converged.any()
    assert (maps.steps <= 40).all()
    assert (maps.steps > 20).all()
    few = integrated_gradients(network, images[:10], zero, tolerance=1e-5, max_steps=3)
    assert (few.steps == 3).all()


def test_neighbours_do_not_matter(network, images):
    """A hard map beside an easy one; the floor is absolute, not relative to the batch."""
    zero = np.zeros((T, F), np.float32)
    pair = np.stack([images[0], 1e-3 * images[1]])
    both = integrated_gradients(network, pair, zero, tolerance=0.003)
    for image, steps, values in zip(pair, both.steps, both.values, strict=True):
        alone = integrated_gradients(network, image[None], zero, tolerance=0.003)
        assert alone.steps[0] == steps
        np.testing.assert_allclose(alone.values[0], values, atol=1e-6)  # other batch, same points


def test_a_step_function_is_found_by_bisection():
    """One bend far out on the path: the points must gather around it."""
    bend = 0.7
    score = lambda image: jax.nn.relu(image.sum() - bend) * 10
    image = np.full((1, 2, 2), 0.25, np.float32)
    maps = integrated_gradients(score, image, np.zeros((2, 2)), tolerance=1e-4)
    assert maps.converged.all()
    assert maps.steps[0] < 40  # equal steps would take thousands
    np.testing.assert_allclose(maps.values, 10 * (1 - bend) / 4, rtol=1e-4)


def test_smooth_scores_need_no_more_than_the_first_points():
    score = lambda image: jnp.tanh(image).sum()
    image = np.full((3, 2, 2), 0.5, np.float32)
    maps = integrated_gradients(score, image, np.zeros((2, 2)), tolerance=0.01)
    assert (maps.steps == adaptive.FIRST).all()


def points_at(position, score, slope):
    shape = position.shape
    return adaptive.Points(position, score(position), slope(position), np.zeros(shape))


def test_cells_share_out_the_path(rng):
    position = np.sort(rng.uniform(size=(3, 9)), axis=1)
    weights = adaptive.cell_weights(position)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    edges = np.concatenate([np.zeros((3, 1)), np.cumsum(weights, 1)], 1)
    assert (edges[:, :-1] <= position).all()
    assert (position <= edges[:, 1:]).all()


def test_gap_residuals_sum_to_the_residual_of_the_rule(rng):
    position = np.sort(rng.uniform(size=(3, 9)), axis=1)
    points = points_at(position, np.exp, np.exp)
    gaps = adaptive.gap_residuals(points, np.tile([1.0, np.e], (3, 1)))
    assert gaps.shape == (3, 10)
    rule = (adaptive.cell_weights(position) * np.exp(position)).sum(1)
    np.testing.assert_allclose(gaps.sum(1), rule - (np.e - 1), atol=1e-12)
    # Straight parts have none: a gap's residual is local.
    bend = lambda x: np.maximum(x - 0.5, 0)
    kinked = points_at(position, bend, lambda x: (x > 0.5).astype(float))
    gaps = adaptive.gap_residuals(kinked, np.tile([0.0, 0.5], (3, 1)))
    crossed = np.pad(position > 0.5, ((0, 0), (1, 1)), constant_values=((0, 0), (False, True)))
    around = crossed[:, 1:] != crossed[:, :-1]
    assert (np.abs(gaps[~around]) < 1e-12).all()
    assert (np.abs(gaps[around]) > 1e-6).all()


@pytest.mark.parametrize("share", [2**40, 2**18, 2**17])
def test_kept_and_repeated_gradients_give_the_same_integral(
    network, images, twin, monkeypatch, share
):
    """Whatever is kept, the integral is the sum of final weights times gradients."""
    zero = np.zeros((T, F), np.float32)
    options = {"tolerance": 0.0003, "max_steps": 2000}
    expected = integrated_gradients(network, images[:6], zero, **options)
    monkeypatch.setattr(evaluations, "SHARE", share)
    found = integrated_gradients(network, images[:6], zero, **options)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)  # order of addition
    assert (found.steps >= expected.steps).all()
    assert found.steps.sum() > expected.steps.sum()
    # By the twin: 200 points and more make maps of a tenth of the error of 10.
    exact = twin[1][:6]
    away = np.abs(found.values - exact).sum((1, 2)) / np.abs(exact).sum((1, 2))
    assert away.mean() < 0.02


def noisy(size):
    """A score with two bends and noise that no gradient knows of, of standard deviation `size`.

    The noise is uniform, made of the bits of the sum of the cells, so that it is another one at the
    next float32 number.
    """

    def score(image):
        x = image.sum()
        bits = lax.bitcast_convert_type(lax.stop_gradient(x), jnp.int32)
        for shift, factor in ((7, -1640531527), (13, -2048144789)):
            bits = (bits ^ (bits >> shift)) * jnp.int32(factor)
        noise = size * np.sqrt(3).astype(np.float32) * bits.astype(jnp.float32) / 2.0**31
        return jax.nn.relu(x - 0.3) + jnp.tanh(2 * x) + noise

    return score


@pytest.mark.parametrize("size", [1e-3, 3e-3])
def test_noise_of_the_scores_is_not_chased(size):
    """It adds the root of twice the points to the errors of the gaps; the tolerance is .001."""
    images = np.linspace(0.2, 0.26, 24, dtype=np.float32)[:, None, None] * np.ones((2, 2))
    images = images.astype(np.float32)
    zero = np.zeros((2, 2), np.float32)
    found = integrated_gradients(noisy(size), images, zero, tolerance=0.001, max_steps=1024)
    assert found.steps.max() < 100  # without an eye for noise: 1,024
    exact = integrated_gradients(noisy(0.0), images, zero, steps=4000, rule="midpoint")
    # The maps are those without noise; the scores at the ends decide what is within the tolerance.
    np.testing.assert_allclose(found.values, exact.values, atol=3e-3)
    within = np.abs(found.residual) <= 0.001 * np.abs(found.values.sum((1, 2)) - found.residual)
    assert not (found.converged & ~within).any()


def test_bfloat16_inputs_end_before_they_must(network, images):
    half = jnp.asarray(images[:8], jnp.bfloat16)
    score = lambda image: network(image.astype(jnp.float32)).astype(jnp.bfloat16)
    found = integrated_gradients(score, half, np.zeros((T, F)), tolerance=0.003, max_steps=1024)
    assert found.steps.max() < 300
    exact = integrated_gradients(
        network, half.astype(jnp.float32), np.zeros((T, F), np.float32), steps=400
    )
    away = np.abs(found.values.astype(np.float32) - exact.values).sum((1, 2))
    assert (away < 0.1 * np.abs(exact.values).sum((1, 2))).all()  # gradients of 8 bits


def gaps_cut_in_half(score, slope, count):
    """Residuals of the gaps between `count` points, and after all inner gaps were cut."""
    ends = score(np.array([[0.0, 1.0]]))
    coarse = (np.arange(count)[None] + 0.5) / count
    between = (coarse[:, 1:] + coarse[:, :-1]) / 2
    fine = np.sort(np.concatenate([coarse, between], 1), 1)
    gaps = [adaptive.gap_residuals(points_at(x, score, slope), ends) for x in (coarse, fine)]
    return gaps[0][:, 1:-1], gaps[1], np.isin(fine, between)


def test_cutting_leaves_noise_and_mends_errors(rng):
    def share_left(score, slope):
        noise_and_errors = adaptive._what_cutting_left(*gaps_cut_in_half(score, slope, 64))
        product, square, count = noise_and_errors[0]
        assert count == 63
        return product / square

    noise = lambda x: np.sin(1e6 * x)
    assert share_left(noise, np.zeros_like) == pytest.approx(1)
    curved = share_left(np.exp, np.exp)
    assert curved == pytest.approx(1 / 4, rel=0.01)  # of a gap of 1 / 64, to third order
    bends = rng.uniform(size=(30, 1, 1))
    bent = share_left(
        lambda x: np.maximum(x - bends, 0).sum(0), lambda x: (x > bends).sum(0).astype(float)
    )
    assert bent < 0.5
