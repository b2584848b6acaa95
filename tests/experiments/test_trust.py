"""The checks of a study on a small network, as rows and curves."""

from functools import partial

import jax
import numpy as np
import pytest

from experiments import trust
from instrument_ig import models
from instrument_ig.attribution import integrated_gradients

NOTES = ["one", "two", "three"]


@pytest.fixture(scope="module")
def checked():
    model = models.MODELS["chen"]((16, 12), 1)
    variables = model.init(jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(3, 16, 12)).astype(np.float32)
    random = {
        layer: models.score(model, changed)
        for layer, changed in trust.cascade(model, variables, jax.random.key(1))
    }
    baselines = {"zero": np.zeros((16, 12), np.float32), "mean": images.mean(0)}
    method = partial(integrated_gradients, steps=20)
    return trust.check(
        method,
        models.score(model, variables),
        random,
        images,
        baselines,
        NOTES,
        jax.random.key(2),
    )


def values(checked, name, what):
    return [row["value"] for row in checked.rows if (row["check"], row["of"]) == (name, what)]


def test_every_check_has_a_number_for_every_note(checked):
    kinds = {(row["check"], row["of"]) for row in checked.rows}
    assert {name for name, _ in kinds} == {
        "relative residual",
        "dependence on the baseline",
        "max-sensitivity",
        "infidelity (unexplained share)",
        "insertion area",
        "deletion area",
        "rank correlation after randomising",
    }
    for kind in kinds:
        notes = [row["note"] for row in checked.rows if (row["check"], row["of"]) == kind]
        assert notes == NOTES, kind
    assert len(checked.rows) == len(NOTES) * len(kinds)
    assert np.isfinite([row["value"] for row in checked.rows]).all()
    orders = {what for name, what in kinds if name == "insertion area"}
    assert orders == {what for name, what in kinds if name == "deletion area"} == {*checked.curves}


def test_a_map_is_told_from_its_shuffled_cells(checked):
    name = "infidelity (unexplained share)"
    good, bad = values(checked, name, "map"), values(checked, name, trust.SHUFFLED)
    assert (np.array(good) < np.array(bad)).all()


@pytest.mark.parametrize("through_jit", [False, True])
@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("chen", ["dense_1", "dense_0", *(f"conv2d_{i}" for i in range(5, -1, -1))]),
        (
            "senatori",
            ["dense_1", "dense_0"]
            + [f"{kind}_{i}" for i in (2, 1, 0) for kind in ("batch_norm", "conv2d")],
        ),
    ],
)
def test_the_cascade_randomises_from_the_output_down(name, order, through_jit):
    model = models.MODELS[name]((16, 12), 2)
    # Running statistics as training leaves them: not those of a new network.
    variables = jax.tree.map(lambda leaf: leaf + 0.5, model.init(jax.random.key(0)))
    if through_jit:  # which sorts the keys of dicts
        variables = jax.jit(lambda tree: tree)(variables)
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
    seen = []
    for layer, changed in trust.cascade(model, variables, jax.random.key(1)):
        seen.append(layer)
        assert jax.tree.structure(changed) == jax.tree.structure(variables)
        for kind, layers in changed.items():
            for name, own in layers.items():
                assert same(own, variables[kind][name]) == (name not in seen), (kind, name)
    assert seen == order
    assert {*seen} == {*variables["params"]}


def test_the_drawing_holds_the_maps_of_all_models(checked):
    figure = trust.draw([checked, checked])
    insertion = figure.axes[0]
    expected = np.median(checked.curves["map"].insertion, 0)
    np.testing.assert_allclose(insertion.lines[0].get_ydata(), expected, rtol=1e-6)  # float32
