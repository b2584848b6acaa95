"""Correlation of feature maps with kernels, where the networks here spend their time.

Checked against `lax.conv_general_dilated` in tests/models/test_correlation.py.
"""

import jax
from jax import lax
from jaxtyping import Array, Float


@jax.custom_vjp
def correlate(
    maps: Float[Array, "B T F C"], kernels: Float[Array, "h w C D"]
) -> Float[Array, "B T F D"]:
    """Correlate maps with kernels of odd height and width, keeping the size.

    Both derivatives are written as correlations of this very form. JAX's own have other dimension
    orders, which XLA:CPU rearranges for its fast kernels at the top level of a program only:
    within `scan` or `while_loop` they fall back to plain loops, ten times slower and more.

    Numerics: as `lax.conv_general_dilated`, derivatives included.
    Cost: 2 h w T F C D FLOP per example, and as many for each of the two derivatives. Reverse
    mode only, to any order.

    References: https://github.com/jax-ml/jax/issues/12868.
    """
    return _slide(maps, kernels, _margins(kernels))


def _forward(maps, kernels):
    return correlate(maps, kernels), (maps, kernels)


def _backward(saved, change):
    maps, kernels = saved
    to_maps = correlate(change, kernels[::-1, ::-1].swapaxes(2, 3))
    # Channels in the place of examples and examples in the place of channels: slide the change,
    # as one large kernel, over the maps.
    swapped = maps.transpose(3, 1, 2, 0), change.transpose(1, 2, 0, 3)
    to_kernels = _slide(*swapped, _margins(kernels))
    return to_maps, to_kernels.transpose(1, 2, 0, 3)


correlate.defvjp(_forward, _backward)


def _margins(kernels):
    return [(size // 2, size // 2) for size in kernels.shape[:2]]


def _slide(maps, kernels, margins):
    return lax.conv_general_dilated(
        maps, kernels, (1, 1), margins, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
