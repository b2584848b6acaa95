"""Inference in batches against one call; the summary against the parameters themselves."""

import jax
import numpy as np
import pytest

from instrument_ig import machine
from instrument_ig.machine import Execution
from instrument_ig.models import MODELS, correlate, logits

SHAPE = (16, 12)


@pytest.mark.parametrize("mesh", [None, 1])
@pytest.mark.parametrize("count", [0, 1, 8, 11])
def test_logits_of_any_number_of_images(count, mesh, key, rng):
    model = MODELS["senatori"](SHAPE, 3)
    variables = model.init(key)
    images = rng.normal(size=(count, *SHAPE)).astype(np.float32)
    execution = Execution(mesh=machine.data_mesh(mesh)) if mesh else None
    found = logits(model, variables, images, execution=execution)
    assert found.shape == (count, 3)
    if count:
        # The same sums in another order: a few rounding errors of float32.
        expected = np.asarray(model.apply(variables, images).logits)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_little_memory_is_enough_and_far_too_little_is_refused(key, rng):
    model = MODELS["chen"](SHAPE, 2)
    variables = model.init(key)
    images = rng.normal(size=(11, *SHAPE)).astype(np.float32)
    expected = np.asarray(model.apply(variables, images).logits)
    done, weights = [], sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    execution = Execution(memory=2 * weights, report=lambda *counts: done.append(counts))
    found = logits(model, variables, images, execution=execution)
    assert done[-1] == (11, 11)
    assert done == sorted(done)
    # The same sums in another order: a few rounding errors of float32.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=rf"memory={weights}: one example at a time needs \d+"):
        logits(model, variables, images, execution=Execution(memory=weights))


def test_models_that_are_equal_are_traced_once_and_precisely(key, rng):
    traces = []

    def noting(maps, kernels):
        traces.append((len(maps), jax.config.jax_default_matmul_precision))
        return correlate(maps, kernels)

    variables = MODELS["senatori"](SHAPE, 3).init(key)
    with jax.default_matmul_precision("bfloat16"):
        for count in (5, 6, 7, 8, 3, 4):
            model = MODELS["senatori"](SHAPE, 3, noting)
            logits(model, variables, rng.normal(size=(count, *SHAPE)).astype(np.float32))
    convolutions = 3
    assert traces == [(1, "highest")] * convolutions


@pytest.mark.parametrize("name", MODELS)
def test_summary_counts_every_parameter_and_follows_the_shapes(name, key):
    model = MODELS[name]((94, 40), 5)
    layers = model.summary()
    params = model.init(key)["params"]
    assert sum(layer.parameters for layer in layers) == sum(p.size for p in jax.tree.leaves(params))
    shapes = {layer.name: layer.shape for layer in layers}
    assert shapes["conv2d_0"] == (94, 40, 32)
    assert layers[-1].shape == (5,)
    taps = model.apply(model.init(key), np.zeros((1, 94, 40), np.float32)).taps
    for tap, maps in taps.items():
        assert shapes[tap] == maps.shape[1:]


def test_summary_is_that_of_figure_4():
    layers = MODELS["senatori"]((94, 128), 28).summary()
    assert [
        (layer.name, layer.shape, layer.parameters) for layer in layers if layer.parameters
    ] == [
        ("conv2d_0", (94, 128, 32), 9 * 32 + 32),
        ("batch_norm_0", (94, 128, 32), 2 * 32),
        ("conv2d_1", (47, 64, 64), 9 * 32 * 64 + 64),
        ("batch_norm_1", (47, 64, 64), 2 * 64),
        ("conv2d_2", (23, 32, 128), 9 * 64 * 128 + 128),
        ("batch_norm_2", (23, 32, 128), 2 * 128),
        ("dense_0", (128,), 128 * 128 + 128),
        ("dense_1", (28,), 128 * 28 + 28),
    ]
