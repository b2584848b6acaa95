"""What attribution methods check of their arguments before any long work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from instrument_ig.attribution.programs import result_shape
from instrument_ig.types import Score, Split

Images = Shaped[Array, "..."] | Shaped[np.ndarray, "..."]  # floats, checked below


def checked_images(inputs: Images) -> Float[Array, "B ..."]:
    """Return `inputs` [B, ...] as an array of floats, refusing NaN and infinities.

    Raises:
        ValueError: not a batch of floats, or a concrete value is not finite.
    """
    array = jnp.asarray(inputs)
    if array.ndim < 2 or not len(array) or not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"inputs: {array.dtype}{list(array.shape)}, not a batch of float images")
    return _finite("inputs", array)


def checked_baselines(baselines: Images, inputs: Float[Array, "B ..."]) -> Float[Array, "R b ..."]:
    """Return `baselines` as [R, B, ...], or [R, 1, ...] where all inputs share them.

    Raises:
        ValueError: the shape fits neither one image, nor the inputs, nor several of those; or a
            concrete value is not finite.
    """
    array = jnp.asarray(baselines, inputs.dtype)
    extra = array.ndim - inputs.ndim
    expected = inputs.shape[1:] if extra < 0 else inputs.shape
    fits = array.shape[max(extra, 0) :] == expected and array.size
    if extra not in (-1, 0, 1) or not fits:
        raise ValueError(
            f"baselines {array.shape}: neither {inputs.shape[1:]} (one for all inputs), "
            f"nor {inputs.shape}, nor (R, *{inputs.shape})"
        )
    array = _finite("baselines", array)
    return array.reshape(-1, 1 if extra == -1 else len(inputs), *inputs.shape[1:])


def whole(score: Score | Split) -> Score:
    """Return the function of one image that a `Split` was cut from, or `score` itself."""
    return jax.tree_util.Partial(_join, score) if isinstance(score, Split) else score


def checked_score(score: Any, inputs: Float[Array, "B ..."]) -> None:
    """Refuse a score that is not one real number per image.

    Raises:
        ValueError: it returns another shape or an integer, or a prefix more than one array.
    """
    if isinstance(score, Split):
        inner = shape_of_one(score.prefix, inputs)
        if not isinstance(inner, jax.ShapeDtypeStruct):
            raise ValueError(f"the prefix returns {type(inner).__name__}, not one array")
    out = shape_of_one(whole(score), inputs)
    if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"score of an image {inputs.shape[1:]} is {out}, not one real number")


def checked_maps(values: Images, inputs: Images) -> None:
    """Refuse maps that are not one per input (or other map) and of its shape.

    Raises:
        ValueError: the shapes differ.
    """
    if values.shape != inputs.shape:
        raise ValueError(f"maps {values.shape}: not of the shape {inputs.shape}")


def checked_numbers(
    tolerance: float | None, floor: float, max_steps: int, chunk: int | None
) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        ValueError: `tolerance` is not in (0, 1), `floor` not positive, `max_steps` or `chunk`
            below 1.
    """
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance={tolerance}: not in (0, 1)")
    if not 0 < floor < np.inf:
        raise ValueError(f"floor={floor}: not a positive score difference")
    if max_steps < 1:
        raise ValueError(f"max_steps={max_steps}: at least 1")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk}: at least 1")


def checked_tap(score: Any, inputs: Float[Array, "B ..."]) -> None:
    """Refuse a score that is not cut at a stack of feature maps [t, f, C].

    Raises:
        ValueError: no `Split`, images that are not [T, F], or a tap of another rank.
    """
    if not isinstance(score, Split):
        raise ValueError("score: class activation maps need a Split at a tap, not a plain score")
    if inputs.ndim != 3:
        raise ValueError(f"inputs: class activation maps are for [B, T, F], not {inputs.shape}")
    checked_score(score, inputs)
    tap = shape_of_one(score.prefix, inputs)
    if len(tap.shape) != 3:
        raise ValueError(f"score: the tap is {tap.shape}, not feature maps (t, f, C)")


def shape_of_one(function: Any, inputs: Float[Array, "B ..."]) -> Any:
    """Return shape and dtype of `function`, a score or a part of one, of one of the inputs."""
    return result_shape(_evaluate, function, jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype))


def _finite(name, array):
    if not isinstance(array, jax.core.Tracer) and not (finite := np.isfinite(array)).all():
        raise ValueError(f"{name}: {np.sum(~finite)} values are NaN or infinite")
    return array


def _evaluate(score, image):
    return score(image)


def _join(split, image):
    return split.rest(split.prefix(image))
