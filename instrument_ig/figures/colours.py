"""As many colours as there are classes, each easy to tell from the others."""

import numpy as np
from jaxtyping import Float

LEVELS = 14  # of each primary: 2744 candidates
LIGHTNESS = (0.35, 0.82)  # dark enough on white, light enough beside black

# Linear sRGB to cone responses, and their cube roots to lightness and two opponent colours.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def distinct_colours(count: int) -> Float[np.ndarray, "K 3"]:
    """Choose sRGB colours one by one, each as far as can be from those before it.

    Distances are Euclidean in OKLab, where equal distances look about equal. The first colours do
    not depend on how many follow.

    References:
      Glasbey et al., Colour displays for categorical images, 2007.
      Ottosson, A perceptual color space for image processing, 2020.
    """
    levels = np.linspace(0, 1, LEVELS)
    candidates = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    places = oklab(candidates)
    usable = (places[:, 0] > LIGHTNESS[0]) & (places[:, 0] < LIGHTNESS[1])
    candidates, places = candidates[usable], places[usable]
    nearest = np.linalg.norm(places - oklab(np.ones(3)), axis=1)  # first of all: far from white
    chosen = []
    for _ in range(count):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return candidates[chosen]


def oklab(colours: Float[np.ndarray, "*K 3"]) -> Float[np.ndarray, "*K 3"]:
    """Return lightness, green-red and blue-yellow of sRGB colours in [0, 1]."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T
