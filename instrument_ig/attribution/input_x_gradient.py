"""Input x gradient: the score's rise as its slope at the input alone would have it.

Checked against closed forms in tests/attribution/test_gradient_maps.py.
"""

from jaxtyping import Array

from instrument_ig.attribution import arguments
from instrument_ig.attribution.integrated_gradients import integrated_gradients
from instrument_ig.machine import Execution
from instrument_ig.types import Attribution, Score, Split


def input_x_gradient(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images,
    *,
    key: Array | None = None,
    execution: Execution | None = None,
) -> Attribution:
    """Return (x - b) * grad score(x): integrated gradients by one point at the end of the path.

    With a zero baseline this is the input times its gradient. It is complete for scores that are
    affine between b and x only; the residual says how far it is from that.

    Args:
        score: function of one image, or a `Split`, of which only the whole matters.
        inputs: images [B, T, F], or any shape [B, ...].
        baselines: as for `integrated_gradients`.
        key: not used; nothing is drawn.
        execution: memory, devices, progress in maps.

    Raises:
        ValueError: a shape, dtype, NaN or number that cannot be; a score that is not one real
            number.

    Numerics: zero, with residual zero, where an image is its baseline; `converged` as for
        `integrated_gradients`. NaN under `jit` propagates to its own map alone.
    Cost: one gradient and two scores per image and baseline.
    References: Shrikumar, Greenside, Shcherbina, Kundaje, Not just a black box, 2016.
    """
    del key
    return integrated_gradients(
        score,
        inputs,
        baselines,
        steps=1,
        rule="right",
        execution=execution,
    )
