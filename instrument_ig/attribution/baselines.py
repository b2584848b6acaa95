"""Reference inputs: what a map's input is compared with.

The choice decides what a map means (what makes this note differ from silence, from the average
note, from itself without detail?); `checks.dependence` measures how much the maps change with it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.attribution.arguments import Images, checked_images


def zero(inputs: Images) -> Float[Array, "..."]:
    """Return one image of zeros: the average note where images are standardised."""
    return jnp.zeros(inputs.shape[1:], inputs.dtype)


def mean(images: Images) -> Float[Array, "..."]:
    """Return the mean of images, such as those of the training notes."""
    return jnp.asarray(images).mean(0)


def blurred(inputs: Images, sigma: float = 8.0) -> Float[Array, "B T F"]:
    """Return each input without its detail: smoothed by a Gaussian along both axes.

    Args:
        inputs: images [B, T, F].
        sigma: standard deviation of the Gaussian, in cells of either axis; the kernel is cut at
            3 sigma. Beyond the edges an image goes on with its edge values.

    Raises:
        ValueError: `sigma` is not positive, or inputs are no batch of finite float images.

    Numerics: kernels sum to 1 up to rounding, so a constant image stays as it is.
    Cost: two 1-D convolutions per image.
    """
    if not 0 < sigma < np.inf:
        raise ValueError(f"sigma={sigma}: not a positive number of cells")
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    inputs = checked_images(inputs)
    kernel = jnp.asarray(kernel / kernel.sum(), inputs.dtype)
    smooth = lambda line: jnp.convolve(
        jnp.pad(line, reach, mode="edge"), kernel, mode="valid", precision="highest"
    )
    along_time = jax.vmap(jax.vmap(smooth, 1, 1))
    along_frequency = jax.vmap(jax.vmap(smooth))
    return along_frequency(along_time(inputs))
