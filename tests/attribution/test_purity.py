"""A score is what it computes now: it may change, hold arrays, and hold traced values."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.attribution import AT_A_TAP, ATTRIBUTIONS, checks, integrated_gradients
from instrument_ig.machine import Execution
from instrument_ig.types import Split

B, T, F = 3, 6, 4
ROUNDING = 1e-5  # sums of up to 24 float32 terms near 1


@pytest.fixture
def images(rng):
    return rng.normal(size=(B, T, F)).astype(np.float32)


@pytest.fixture
def weight(rng):
    return jnp.asarray(rng.normal(size=(T, F)), jnp.float32)


zero = np.zeros((T, F), np.float32)


def score_at_tap(weight):
    """A score that every method takes: cut at two feature maps."""
    prefix = lambda image: jnp.stack([jnp.tanh(weight * image), image], -1)
    return Split(prefix, lambda maps: (maps[..., 0] * jnp.sin(maps[..., 1])).sum())


def explain(method, score, images, key, **options):
    few = {"smooth_grad": {"draws": 3}, "integrated_gradients": {"steps": 5}}.get(method, {})
    return ATTRIBUTIONS[method](score, images, zero, key=key, **few, **options).values


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_what_has_changed_is_explained_as_it_is_now(method, images, weight, key):
    box = {"weight": weight}
    changing = Split(
        lambda image: score_at_tap(box["weight"]).prefix(image), score_at_tap(weight).rest
    )
    before = explain(method, changing, images, key)
    box["weight"] = -2 * weight
    after = explain(method, changing, images, key)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(
        after, explain(method, score_at_tap(-2 * weight), images, key), atol=ROUNDING
    )


def test_each_class_gets_its_own_certified_map(images, rng):
    """The class is a number in the closure, rebound between calls."""
    rows = jnp.asarray(rng.normal(size=(3, T * F)), jnp.float32)
    k = 0
    score = lambda image: (rows @ image.ravel())[k]
    for k in range(3):  # noqa: B007
        maps = integrated_gradients(score, images, zero)
        np.testing.assert_allclose(maps.values, images * rows[k].reshape(1, T, F), atol=ROUNDING)
        assert maps.converged.all()


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_gradients_pass_through_plain_closures(method, images, weight, key):
    """Against differences in double precision, of the sum of all maps."""
    with jax.enable_x64(True):
        images, weight = np.asarray(images, float), jnp.asarray(weight, float)
        direction = jnp.cos(jnp.arange(T * F, dtype=float)).reshape(T, F)
        total = lambda weight: explain(method, score_at_tap(weight), images, key).sum()
        slope = jnp.vdot(jax.grad(total)(weight), direction)
        ahead, behind = (total(weight + step * direction) for step in (1e-5, -1e-5))
        # The second order cancels, and no rectifier turns within the step.
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_jit_and_vmap_pass_through_plain_closures(method, images, weight, key):
    several = jnp.stack([weight, -weight])
    run = lambda weight: explain(method, score_at_tap(weight), images, key)
    expected = [run(own) for own in several]
    near = {"rtol": ROUNDING, "atol": ROUNDING}  # cells of Grad-CAM++ are up to 15
    np.testing.assert_allclose(jax.vmap(run)(several), expected, **near)
    np.testing.assert_allclose(jax.jit(run)(weight), expected[0], **near)


@pytest.mark.parametrize("method", sorted(set(ATTRIBUTIONS) - AT_A_TAP))
def test_calls_leave_no_array_behind(method, images, key):
    """Fresh functions over fresh arrays: what they held goes with them."""
    gone = []
    for seed in range(3):
        array = jax.random.normal(jax.random.key(seed), (T, F))
        gone.append(weakref.ref(array))
        explain(method, lambda image, w=array: (w * jnp.sin(image)).sum(), images, key)
        del array
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3


def test_the_ambient_precision_changes_nothing(images, weight):
    """On a CPU all precisions compute alike, so it is the traced programs that are compared."""
    seen = []

    def score(image):
        seen.append(jax.config.jax_default_matmul_precision)
        return jnp.sin(image.reshape(-1) @ weight.reshape(-1))

    with jax.default_matmul_precision("bfloat16"):
        integrated_gradients(score, images, zero, steps=3)
        assert set(seen) == {"highest"}
        seen.clear()
        low = Execution(precision="default")
        maps = integrated_gradients(score, images, zero, tolerance=0.01, execution=low)
        assert set(seen) == {"highest", "default"}  # of the scores at the ends, and on the path
    assert maps.converged.all()


def test_a_score_traced_by_the_engine_first_means_the_same_afterwards(images, weight):
    score = jax.jit(lambda image: jnp.sin(image.reshape(-1) @ weight.reshape(-1)))
    integrated_gradients(score, images, zero, steps=3)
    after = score.lower(images[0]).as_text()
    fresh = jax.jit(lambda image: jnp.sin(image.reshape(-1) @ weight.reshape(-1)))
    assert after == fresh.lower(images[0]).as_text()


def test_checks_take_scores_as_they_are_now(images, weight, key):
    box = {"weight": weight}
    score = lambda image: jnp.tanh(box["weight"] * image).sum()
    run = lambda score: checks.infidelity(score, images, zero, images, key=key, draws=4).error
    before = run(score)
    box["weight"] = 3 * weight
    assert np.abs(run(score) - before).max() > 1e-3
    np.testing.assert_allclose(
        run(score), run(lambda image: jnp.tanh(3 * weight * image).sum()), rtol=1e-5
    )
