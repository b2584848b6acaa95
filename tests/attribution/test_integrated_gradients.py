import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.attribution import integrated_gradients
from instrument_ig.attribution.quadrature import RULES, quadrature
from instrument_ig.machine import Execution
from instrument_ig.types import Split

B, T, F = 5, 6, 4
ROUNDING = 2e-6  # some tens of float32 roundings of values near 1


@pytest.fixture
def images(rng):
    return rng.normal(size=(B, T, F)).astype(np.float32)


@pytest.fixture
def baseline(rng):
    return (0.3 * rng.normal(size=(T, F))).astype(np.float32)


@pytest.fixture
def relu_score(rng):
    """A small network with bends; kinked like the real ones."""
    first = jnp.asarray(rng.normal(size=(T * F, 16)) / 5, jnp.float32)
    second = jnp.asarray(rng.normal(size=16) / 4, jnp.float32)
    return lambda image: jnp.dot(jax.nn.relu(jnp.dot(image.reshape(-1), first) - 0.1), second)


def loop(score, image, baseline, rule, steps):
    """The definition, one point after the other, in float64 outside the scores."""
    gradient, total = jax.grad(score), np.zeros(image.shape)
    for node, weight in zip(*quadrature(rule, steps), strict=True):
        total += weight * np.asarray(gradient(baseline + np.float32(node) * (image - baseline)))
    return (image - baseline) * total


@pytest.mark.parametrize("rule", RULES)
def test_linear_scores_give_weight_times_difference(images, baseline, rng, rule):
    weight = rng.normal(size=(T, F)).astype(np.float32)
    score = lambda image: (weight * image).sum() + 3
    maps = integrated_gradients(score, images, baseline, steps=3, rule=rule)
    np.testing.assert_allclose(maps.values, weight * (images - baseline), atol=ROUNDING)
    assert maps.converged.all()
    assert (maps.steps == 3).all()


def test_separable_scores_give_each_cell_its_own_difference(images, baseline):
    score = lambda image: (image**3 - 2 * image).sum()
    maps = integrated_gradients(score, images, baseline, steps=2)  # exact to degree 3
    exact = (images**3 - 2 * images) - (baseline**3 - 2 * baseline)
    np.testing.assert_allclose(maps.values, exact, atol=1e-5)  # cubes of values up to 3


def test_two_networks_that_compute_one_function_give_one_map(rng):
    """Figure 5 of Sundararajan et al.: min(x, 1) written in two ways, on positive inputs."""
    inputs = jnp.asarray(rng.uniform(0.1, 3, size=(8, 2)), jnp.float32)
    relu = jax.nn.relu
    one = lambda x: relu(relu(x[0]) - 1 - relu(x[1]))
    other = lambda x: relu(relu(x[0] - 1) - relu(x[1]))
    options = {"steps": 200, "rule": "midpoint"}
    maps = [integrated_gradients(f, inputs, jnp.zeros(2), **options).values for f in (one, other)]
    assert np.abs(maps[0]).max() > 0.1
    np.testing.assert_allclose(*maps, atol=ROUNDING)


@pytest.mark.parametrize("rule", RULES)
def test_equals_a_loop_over_points(images, baseline, relu_score, rule):
    maps = integrated_gradients(relu_score, images, baseline, steps=7, rule=rule)
    expected = [loop(relu_score, image, baseline, rule, 7) for image in images]
    np.testing.assert_allclose(maps.values, expected, atol=ROUNDING)


def test_residual_is_the_sum_less_the_score_difference(images, baseline, relu_score):
    maps = integrated_gradients(relu_score, images, baseline, steps=3)
    difference = jax.vmap(relu_score)(images) - relu_score(baseline)
    residual = maps.values.sum((1, 2)) - difference
    assert np.abs(residual).max() > 1e-3
    np.testing.assert_allclose(maps.residual, residual, atol=ROUNDING)
    relative = np.abs(residual) / np.maximum(np.abs(difference), 0.01)
    assert maps.converged.tolist() == (relative <= 0.01).tolist()
    assert 0 < maps.converged.sum() < B  # both kinds are seen


def test_an_input_that_is_its_baseline_gets_zeros(baseline, relu_score):
    maps = integrated_gradients(relu_score, baseline[None], baseline)
    assert (maps.values == 0).all()
    assert maps.converged.all()


def test_ties_of_a_constant_baseline_do_not_multiply(images):
    """All windows of a constant image tie; the endpoint rule sees one winner in each."""

    def score(image):
        window = (2, 2)
        pooled = jax.lax.reduce_window(image, -jnp.inf, jax.lax.max, window, window, "VALID")
        return pooled.sum()

    maps = integrated_gradients(score, images, np.zeros((T, F), np.float32), rule="left", steps=1)
    gradient = maps.values / images
    windows = np.asarray(gradient).reshape(B, T // 2, 2, F // 2, 2).sum((2, 4))
    np.testing.assert_allclose(windows, 1, atol=ROUNDING)


def test_equal_calls_give_equal_bits(images, baseline, relu_score):
    for tolerance in (None, 0.01):
        maps = [
            integrated_gradients(relu_score, images, baseline, tolerance=tolerance)
            for _ in range(2)
        ]
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), *maps))


def test_groups_of_a_large_batch_are_joined(rng, relu_score, baseline, monkeypatch):
    images = rng.normal(size=(11, T, F)).astype(np.float32)
    whole = integrated_gradients(relu_score, images, baseline, steps=4)
    monkeypatch.setitem(integrated_gradients.__globals__, "GROUP", 4)  # 11 inputs: 4, 4 and 3
    seen = []
    telling = Execution(report=lambda *count: seen.append(count))
    grouped = integrated_gradients(relu_score, images, baseline, steps=4, execution=telling)
    np.testing.assert_allclose(grouped.values, whole.values, atol=ROUNDING)
    assert seen[-1] == (11, 11)
    assert seen == sorted(seen)


def test_jit_vmap_and_grad_pass_through(images, baseline, relu_score):
    explain = lambda x: integrated_gradients(relu_score, x, baseline, steps=6).values
    eager = explain(images)
    np.testing.assert_allclose(jax.jit(explain)(images), eager, atol=ROUNDING)
    mapped = jax.vmap(explain)(images[:, None])[:, 0]
    np.testing.assert_allclose(mapped, eager, atol=ROUNDING)
    # With smooth scores the maps themselves have gradients: sum(values) ~ score(x) - const.
    smooth = lambda image: jnp.tanh(image).sum()
    total = lambda x: integrated_gradients(smooth, x, baseline, steps=12).values.sum()
    slopes = jax.grad(total)(jnp.asarray(images))
    expected = 1 - jnp.tanh(images) ** 2
    np.testing.assert_allclose(slopes, expected, atol=1e-4)  # 12 Gauss points over tanh'


def test_baselines_per_input_and_averages(images, relu_score, rng):
    several = rng.normal(size=(3, B, T, F)).astype(np.float32)
    apart = [integrated_gradients(relu_score, images, own, steps=9) for own in several]
    average = integrated_gradients(relu_score, images, several, steps=9)
    np.testing.assert_allclose(
        average.values, np.mean([maps.values for maps in apart], 0), atol=ROUNDING
    )
    np.testing.assert_allclose(
        average.residual, np.mean([maps.residual for maps in apart], 0), atol=ROUNDING
    )
    assert (average.steps == 27).all()


def test_maps_at_a_tap_follow_the_straight_line_there(images, baseline):
    split = Split(lambda image: image**2, lambda maps: (maps**2).sum())
    maps = integrated_gradients(split, images, baseline, at="tap", steps=1)
    expected = images**4 - baseline**4  # separable in the tap, exact for degree 2
    np.testing.assert_allclose(maps.values, expected, rtol=1e-5, atol=1e-5)  # fourth powers
    assert maps.converged.all()


def test_dtype_follows_the_input(images, baseline, relu_score):
    assert integrated_gradients(relu_score, images, baseline, steps=2).values.dtype == jnp.float32
    half = jnp.asarray(images, jnp.bfloat16)
    score = lambda image: (image * image).sum()
    maps = integrated_gradients(score, half, np.zeros((T, F)), steps=20)
    assert maps.values.dtype == jnp.bfloat16
    exact = np.asarray(half, np.float32) ** 2
    np.testing.assert_allclose(
        np.asarray(maps.values, np.float32),
        exact,
        rtol=0.02,  # some roundings of 8 bits
    )


def test_double_precision(images, baseline):
    with jax.enable_x64(True):
        double = np.asarray(images, np.float64)
        score = lambda image: jnp.exp(image / 3).sum()
        maps = integrated_gradients(score, double, np.asarray(baseline, np.float64), steps=12)
        assert maps.values.dtype == jnp.float64
        exact = np.exp(double / 3) - np.exp(np.asarray(baseline, np.float64) / 3)
        np.testing.assert_allclose(maps.values, exact, atol=1e-12)  # Gauss-Legendre of degree 23
        single = integrated_gradients(score, images, baseline, tolerance=0.01)
        assert single.values.dtype == jnp.float32


def test_a_nan_map_spoils_no_other(images, baseline):
    score = lambda image: jnp.sqrt(image[0, 0] + 10) + jnp.tanh(image).sum()
    images = images.copy()
    images[2, 0, 0] = -20  # the root of a negative number on part of the path
    for tolerance in (None, 0.01):
        maps = integrated_gradients(score, images, baseline, tolerance=tolerance)
        assert np.isnan(maps.residual[2])
        assert not maps.converged[2]
        others = np.delete(np.arange(B), 2)
        assert np.isfinite(np.asarray(maps.values)[others]).all()
        assert np.asarray(maps.converged)[others].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baselines": np.zeros((T, F - 1))}, r"baselines \(6, 3\)"),
        ({"baselines": np.zeros((B - 1, T, F))}, r"baselines \(4, 6, 4\)"),
        ({"baselines": np.zeros((2, B - 1, T, F))}, r"baselines \(2, 4, 6, 4\)"),
        ({"baselines": np.full((T, F), np.inf)}, "baselines: 24 values are NaN or infinite"),
        ({"inputs": np.full((B, T, F), np.nan)}, "inputs: 120 values are NaN or infinite"),
        ({"inputs": np.zeros(F)}, r"inputs: float32\[4\], not a batch"),
        ({"inputs": np.zeros((0, T, F))}, r"inputs: float32\[0, 6, 4\], not a batch"),
        ({"inputs": np.zeros((B, T, F), int)}, r"inputs: int32\[5, 6, 4\], not a batch"),
        ({"score": lambda image: image}, r"score of an image \(6, 4\) is .*not one real number"),
        ({"score": lambda _: 1}, "not one real number"),
        ({"steps": 0}, "steps=0"),
        ({"rule": "boole"}, "rule='boole'.*trapezoid"),
        ({"tolerance": 0.0}, r"tolerance=0\.0"),
        ({"tolerance": 1.0}, r"tolerance=1\.0"),
        ({"floor": -1.0}, r"floor=-1\.0"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"at": "tap"}, "maps at a tap need a Split"),
        ({"execution": Execution(memory=10)}, "memory=10: one .*needs [0-9]+ bytes"),
    ],
)
def test_bad_arguments_are_refused(images, baseline, relu_score, change, message):
    good = {"score": relu_score, "inputs": images, "baselines": baseline}
    with pytest.raises(ValueError, match=message):
        integrated_gradients(**(good | change))


@pytest.mark.parametrize("tolerance", [None, 0.01])
@pytest.mark.parametrize("size", [1, 2, 64])
def test_batches_change_nothing_but_rounding(
    images, baseline, relu_score, size, tolerance, batches_of
):
    options = {"steps": 10, "tolerance": tolerance, "max_steps": 100}
    together = integrated_gradients(relu_score, images, baseline, **options)
    single = [
        integrated_gradients(relu_score, image[None], baseline, **options) for image in images
    ]
    batches_of(size)
    batched = integrated_gradients(relu_score, images, baseline, **options)
    single = jax.tree.map(lambda *rows: jnp.concatenate(rows), *single)
    for other in (batched, single):
        np.testing.assert_allclose(other.values, together.values, atol=ROUNDING)
        assert (other.steps == together.steps).all()
        assert (other.converged == together.converged).all()


def test_a_split_is_explained_as_a_whole_or_at_its_tap(images, baseline):
    bent = Split(jax.nn.relu, lambda maps: jnp.square(maps).sum())
    whole = integrated_gradients(bent, images, baseline, steps=9)
    expected = integrated_gradients(lambda x: bent.rest(bent.prefix(x)), images, baseline, steps=9)
    np.testing.assert_array_equal(whole.values, expected.values)


def test_under_jit_a_tolerance_is_judged(images, baseline, relu_score):
    explain = lambda x: integrated_gradients(relu_score, x, baseline, steps=3, tolerance=0.2)
    fixed = integrated_gradients(relu_score, images, baseline, steps=3)
    found = jax.jit(explain)(images)
    np.testing.assert_allclose(found.values, fixed.values, atol=ROUNDING)
    difference = np.abs(np.asarray(fixed.values.sum((1, 2)) - fixed.residual)).clip(0.01)
    assert found.converged.tolist() == (np.abs(fixed.residual) <= 0.2 * difference).tolist()
    assert found.converged.sum() > fixed.converged.sum()  # at 0.01


def test_less_memory_is_enough_and_far_too_little_is_refused(rng):
    """What one example needs is mostly its 4096 hidden values, here 64 times for the path."""
    weights = jnp.asarray(rng.normal(size=(64, 4096)) / 64, jnp.float32)
    score = lambda image: jnp.square(jnp.tanh(image.reshape(-1) @ weights)).sum()
    images = rng.normal(size=(40, 8, 8)).astype(np.float32)
    explain = lambda memory, **options: integrated_gradients(
        score, images, np.zeros((8, 8)), execution=Execution(memory=memory), **options
    )
    for options in ({"steps": 64}, {"tolerance": 0.001}):
        much, little = explain(2**28, **options), explain(2**21, **options)
        # sums of 4096 terms, differently grouped
        np.testing.assert_allclose(much.values, little.values, rtol=1e-3, atol=1e-5)
    needed = weights.nbytes
    with pytest.raises(ValueError, match=rf"memory={needed}: one .* needs \d+ bytes") as refusal:
        explain(needed)
    assert int(str(refusal.value).split()[-2]) > needed


def test_averages_over_many_baselines_take_the_memory_of_few(images, rng, relu_score):
    """Groups of paths cut through the baselines of one input."""
    many = rng.normal(size=(50, B, T, F)).astype(np.float32)
    tight = Execution(memory=2**16)  # 10 paths of 24 cells, sixteen images each
    for options in ({"steps": 4}, {"tolerance": 0.01}):
        whole = integrated_gradients(relu_score, images, many, **options)
        cut = integrated_gradients(relu_score, images, many, execution=tight, **options)
        np.testing.assert_allclose(cut.values, whole.values, atol=ROUNDING)
        assert (cut.steps >= whole.steps).all()  # some points twice, for they could not be kept
