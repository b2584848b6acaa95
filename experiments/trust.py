"""How far the heatmaps of a study can be trusted: the checks of some maps, as rows and curves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from instrument_ig.attribution import checks
from instrument_ig.attribution.checks.insertion_deletion import Curves
from instrument_ig.figures.checks import check_curves
from instrument_ig.types import Attribution, Model, Score, Split

DRAWS = 10  # neighbours of an image for max-sensitivity
SHUFFLED = "shuffled map"  # what every check should tell from the map itself


class Checked(NamedTuple):
    """What the checks say of the maps of one model."""

    rows: list[dict[str, Any]]  # one number per row: note, check, of what, value
    curves: dict[str, Curves]  # by ordering
    cascade: dict[str, np.ndarray]  # layer -> rank correlations [B]


def check(
    method: Callable[[Score | Split, np.ndarray, np.ndarray], Attribution],
    score: Score | Split,
    randomised: Mapping[str, Score | Split],
    images: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    notes: list[str],
    key: jax.Array,
) -> Checked:
    """Check the maps of some images under one model.

    Args:
      method: (score, images, baselines) -> maps, everything else fixed.
      score: what is explained.
      randomised: the same with layers made random one after another, by the last layer's name.
      images: [B, T, F].
      baselines: by name, one image or one each; the first is the run's own.
      notes: names of the images.
      key: of all random choices.
    """
    order_key, draw_key, sensitivity_key, shuffle_key = jax.random.split(key, 4)
    baseline = next(iter(baselines.values()))
    explain = lambda *arguments: method(*arguments).values
    maps = method(score, images, baseline)
    values = maps.values
    cells = jax.random.permutation(shuffle_key, values.reshape(len(values), -1), axis=1)
    shuffled = cells.reshape(values.shape)
    curves = checks.insertion_deletion(score, images, baseline, values, key=order_key)
    cascade = checks.randomisation(
        lambda other: explain(other, images, baseline), randomised, values
    )
    near = lambda others: explain(score, others, baseline)
    found = {
        ("relative residual", "map"): checks.relative_residual(maps),
        ("dependence on the baseline", "map"): checks.dependence(
            np.stack([explain(score, images, other) for other in baselines.values()])
        ),
        ("max-sensitivity", "map"): checks.max_sensitivity(
            near, images, values, key=sensitivity_key, draws=DRAWS
        ),
    }
    for what, heatmaps in {"map": values, SHUFFLED: shuffled}.items():
        infidelity = checks.infidelity(score, images, baseline, heatmaps, key=draw_key)
        found["infidelity (unexplained share)", what] = infidelity.unexplained
    for ordering, curve in curves.items():
        found["insertion area", ordering] = curve.insertion_area
        found["deletion area", ordering] = curve.deletion_area
    for layer, correlations in cascade.items():
        found["rank correlation after randomising", layer] = correlations
    fading = {layer: np.asarray(values) for layer, values in cascade.items()}
    return Checked(list(_rows(found, notes)), curves, fading)


def cascade(model: Model, variables: Any, key: jax.Array) -> Iterator[tuple[str, Any]]:
    """Yield the variables with layers made new from the output down, and the last one's name.

    A layer's running statistics become those of a new network with its parameters.
    """
    fresh, layers = model.init(key), [row.name for row in model.summary() if row.parameters]
    for depth in reversed(range(len(layers))):
        yield layers[depth], _with_layers(variables, fresh, layers[depth:])


def _with_layers(variables, fresh, layers):
    """The variables where some layers are those of `fresh`, in every collection that has them."""
    return {
        kind: {layer: (fresh if layer in layers else variables)[kind][layer] for layer in own}
        for kind, own in variables.items()
    }


def _rows(found, notes):
    for (name, what), values in found.items():
        for note, value in zip(notes, np.asarray(values).tolist(), strict=True):
            yield {"note": note, "check": name, "of": what, "value": value}


def draw(found: Sequence[Checked]):
    """Draw the checks of several models together."""
    together = lambda part: np.concatenate([np.asarray(one) for one in part])
    first = next(iter(found[0].curves.values()))
    return check_curves(
        np.asarray(first.fraction),
        {name: together([one.curves[name].insertion for one in found]) for name in found[0].curves},
        {name: together([one.curves[name].deletion for one in found]) for name in found[0].curves},
        {name: together([one.cascade[name] for one in found]) for name in found[0].cascade},
    )
