"""Model randomisation: a map that stays when the model's weights go explains something else.

Checked in tests/attribution/test_checks.py.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from instrument_ig.attribution.arguments import Images
from instrument_ig.attribution.checks.rank_correlation import rank_correlation
from instrument_ig.machine import Report
from instrument_ig.types import Score, Split


def randomisation(
    explain: Callable[[Score | Split], Float[Array, "B ..."]],
    randomised: Mapping[str, Score | Split],
    values: Images,
    *,
    report: Report | None = None,
) -> dict[str, Float[Array, " B"]]:
    """Return the rank correlation of abs(values) with the maps of each randomised score.

    The cascade of the paper replaces the layers' weights by fresh ones from the logit downwards;
    the caller makes those scores. Correlations should fall to about zero as it goes on.

    Args:
        explain: score to maps, such as a method with everything else fixed.
        randomised: scores by the name of the last layer that was randomised, in that order.
        values: maps of the trained score.
        report: called with (scores done, scores in all).

    Raises:
        ValueError: `explain` returns maps of another shape.

    Numerics: NaN where either map is constant or holds a NaN.
    Cost: one call of `explain` and two sorts per map for each score.
    References: Adebayo et al., Sanity checks for saliency maps, 2018, section 4.
    """
    correlations = {}
    for name, score in randomised.items():
        correlations[name] = rank_correlation(jnp.abs(values), jnp.abs(explain(score)))
        if report:
            report(len(correlations), len(randomised))
    return correlations
