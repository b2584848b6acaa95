"""Rows, grids and evaluations against NumPy loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.machine import (
    Evaluations,
    Execution,
    available_memory,
    batches,
    devices,
    evaluations,
    fitting,
    grids,
    map_rows,
    sum_over_points,
)

ROUNDING = 1e-5  # sums of up to 21 float32 terms near 1


@pytest.fixture
def rows(rng):
    return rng.normal(size=(7, 3)).astype(np.float32)


@pytest.fixture
def weight(rng):
    return jnp.asarray(rng.normal(size=3), jnp.float32)


@pytest.mark.parametrize("size", [1, 2, 4, 64])
@pytest.mark.parametrize("traced", [False, True])
def test_rows_are_mapped_as_in_a_loop(rows, weight, size, traced, batches_of):
    batches_of(size)
    seen = []
    execution = Execution(report=lambda *count: seen.append(count))
    run = lambda rows: map_rows(lambda row: (row @ weight, row * 2), rows, execution)
    dots, doubled = (jax.jit(run) if traced else run)(rows)
    np.testing.assert_allclose(dots, rows @ np.asarray(weight), atol=ROUNDING)
    np.testing.assert_array_equal(doubled, rows * 2)
    if not traced:
        assert seen[-1] == (7, 7)
        assert seen == sorted(seen)
        assert len(seen) == -(-7 // min(size, 8))


@pytest.mark.parametrize("size", [1, 4, 64])
@pytest.mark.parametrize("traced", [False, True])
def test_sums_over_points_are_those_of_a_loop(rows, weight, rng, size, traced, batches_of):
    batches_of(size)
    points, weights = rng.normal(size=21).astype(np.float32), rng.normal(size=21)
    function = lambda row, point: (jnp.sin(point * row), jnp.dot(row, weight) * point)
    run = lambda rows: sum_over_points(function, rows, points, weights, Execution())
    waves, dots = (jax.jit(run) if traced else run)(rows)
    for row, wave, dot in zip(rows, waves, dots, strict=True):
        expected = sum(w * np.sin(p * row) for w, p in zip(weights, points, strict=True))
        np.testing.assert_allclose(wave, expected, atol=ROUNDING)
        expected = (weights @ points) * (row @ np.asarray(weight))
        np.testing.assert_allclose(dot, expected, atol=3 * ROUNDING)


def test_loops_are_left_to_the_host_where_they_are_slow(rows, monkeypatch):
    """The sums are the same; what differs is who counts the blocks."""
    kernel = jnp.ones((3, 3, 1, 2))

    def score(image):
        dimensions = ("NHWC", "HWIO", "NHWC")
        maps = jax.lax.conv_general_dilated(
            image[None, ..., None], kernel, (1, 1), "SAME", dimension_numbers=dimensions
        )
        return jnp.tanh(maps).sum()

    images = np.tile(rows[:, :, None], (1, 1, 2))
    points, weights = np.linspace(0, 1, 5).astype(np.float32), np.full(5, 0.2)
    gradient = lambda image, point: jax.grad(score)(point * image)
    run = lambda: sum_over_points(gradient, images, points, weights, Execution())
    by_host = run()
    monkeypatch.setattr(devices, "is_cpu", lambda: False)
    np.testing.assert_allclose(by_host, run(), atol=ROUNDING)


@pytest.mark.parametrize("share", [4, 2**24])
@pytest.mark.parametrize("in_loop", [True, False])
def test_evaluations_are_summed_with_their_weights(rows, weight, rng, share, in_loop, monkeypatch):
    """Kept on the device, or, where nothing fits but one block, computed again."""
    monkeypatch.setattr(evaluations, "SHARE", share)
    if not in_loop:
        monkeypatch.setattr(devices, "is_cpu", lambda: False)
    found = Evaluations(lambda row, a: (a * row + weight, (a, row.sum())), rows, Execution())
    own, points = rng.integers(0, 7, 300), rng.uniform(size=300).astype(np.float32)
    for part in (slice(0, 3), slice(3, 280), slice(280, 300)):
        point, total = found.add(own[part], points[part])
        np.testing.assert_array_equal(point, points[part])
        np.testing.assert_allclose(total, rows.sum(1)[own[part]], atol=ROUNDING)
    assert found.kept().all() == (share == 4)
    weights = rng.normal(size=300)
    expected = np.zeros((7, 3))
    np.add.at(expected, own, weights[:, None] * (points[:, None] * rows[own] + np.asarray(weight)))
    # sums of some 40 terms of both signs
    np.testing.assert_allclose(found.weighted_sums(weights), expected, atol=10 * ROUNDING)


def test_nan_stays_in_its_row(rows):
    rows[2, 1] = np.nan
    points, weights = np.ones(5, np.float32), np.ones(5)
    summed = sum_over_points(lambda row, a: row * a, rows, points, weights, Execution())
    found = Evaluations(lambda row, a: (row * a, a), rows, Execution())
    found.add(np.arange(7), np.ones(7, np.float32))
    for sums in (summed, found.weighted_sums(np.ones(7))):
        np.testing.assert_array_equal(np.isnan(sums), np.isnan(rows))


@pytest.mark.parametrize(("n", "s", "size"), [(1, 50, 4), (9, 50, 4), (64, 50, 256), (3, 53, 256)])
def test_grids_repeat_little(n, s, size):
    rows, points = grids._grid(n, s, size)
    assert -(-n // rows) * rows * -(-s // points) * points <= 1.06 * n * s
    assert size / 2 <= rows * points <= 2 * size or rows * points >= n * s


def test_memory_decides_how_many_are_evaluated_together(rng, batches_of, monkeypatch):
    """Each takes 4 kB of hidden values; what a program needs is asked of the compiler."""
    batches_of(64)
    weight = jnp.asarray(rng.normal(size=(8, 1024)), jnp.float32)
    rows = rng.normal(size=(200, 8)).astype(np.float32)
    function = lambda row: jnp.sort(jnp.tanh(row @ weight))[::97]
    sizes, original = [], batches.in_batches
    spy = lambda call, rows, out, size, done: (
        sizes.append(size) or original(call, rows, out, size, done)
    )
    monkeypatch.setattr(batches, "in_batches", spy)
    found = [map_rows(function, rows, Execution(memory=memory)) for memory in (2**24, 2**17)]
    np.testing.assert_allclose(*found, atol=ROUNDING)
    assert sizes[0] == 64
    assert 1 <= sizes[1] < 16
    with pytest.raises(ValueError, match=r"memory=1000: one example at a time needs \d+ bytes"):
        map_rows(function, rows, Execution(memory=1000))


def test_how_many_fit():
    little = Execution(memory=1000)
    assert available_memory(little) == 1000
    assert fitting(50, 100, little, hot_bytes=1) == 10
    assert fitting(3, 100, little, hot_bytes=1) == 3
    with pytest.raises(ValueError, match="memory=1000: one item needs 1001 bytes"):
        fitting(3, 1001, little, hot_bytes=1)
    assert fitting(50, 100, Execution(), hot_bytes=devices.CPU_CACHE // 3) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 0}, "memory=0"),
        ({"precision": "double"}, "precision='double'.*default, high, highest"),
        ({"mesh": jax.sharding.Mesh(np.empty(0), ("model",))}, "mesh: its axes .*'model'.*'data'"),
    ],
)
def test_an_execution_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Execution(**options)
