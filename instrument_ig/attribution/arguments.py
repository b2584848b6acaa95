"""What attribution methods check of their arguments before any long work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from instrument_ig.machine import Traced, trace
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


def checked_baselines(baselines: Images, inputs: Float[Array, "B ..."]) -> Float[Array, "b R ..."]:
    """Return `baselines` as [B, R, ...], or [1, R, ...] where all inputs share them.

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
    array = array.reshape(-1, 1 if extra == -1 else len(inputs), *inputs.shape[1:])
    return jnp.swapaxes(array, 0, 1)


def checked_score(
    score: Score | Split, inputs: Float[Array, "B ..."], precision: str = "highest"
) -> Traced:
    """Return the score as it is now, refusing one that is not one real number per image.

    Raises:
        ValueError: it returns another shape or an integer.
    """
    return _checked(trace(score, _one(inputs), precision=precision), inputs)


def _checked(traced, inputs):
    out = traced.program.out
    if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"score of an image {inputs.shape[1:]} is {out}, not one real number")
    return traced


def _one(inputs):
    return jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype)


def checked_maps(values: Images, inputs: Images) -> None:
    """Refuse maps that are not one per input (or other map) and of its shape.

    Raises:
        ValueError: the shapes differ.
    """
    if values.shape != inputs.shape:
        raise ValueError(f"maps {values.shape}: not of the shape {inputs.shape}")


def checked_numbers(tolerance: float | None, floor: float, max_steps: int) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        ValueError: `tolerance` is not in (0, 1), `floor` not positive, or `max_steps` below 1.
    """
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance={tolerance}: not in (0, 1)")
    if not 0 < floor < np.inf:
        raise ValueError(f"floor={floor}: not a positive score difference")
    if max_steps < 1:
        raise ValueError(f"max_steps={max_steps}: at least 1")


def checked_split(score: Any, inputs: Float[Array, "B ..."], precision: str = "highest") -> Split:
    """Return a score that is cut at a tap, as it is now.

    Raises:
        ValueError: no `Split`, a prefix that returns more than one array, or a rest that does not
            return one real number.
    """
    if not isinstance(score, Split):
        raise ValueError("score: maps at a tap need a Split there, not a plain score")
    prefix = trace(score.prefix, _one(inputs), precision=precision)
    tap = prefix.program.out
    if not isinstance(tap, jax.ShapeDtypeStruct):
        raise ValueError(f"the prefix returns {type(tap).__name__}, not one array")
    return Split(prefix, _checked(trace(score.rest, tap, precision=precision), inputs))


def checked_tap(score: Any, inputs: Float[Array, "B ..."], precision: str = "highest") -> Split:
    """Return a score that is cut at a stack of feature maps [t, f, C], as it is now.

    Raises:
        ValueError: no `Split`, images that are not [T, F], or a tap of another rank.
    """
    split = checked_split(score, inputs, precision)
    if inputs.ndim != 3:
        raise ValueError(f"inputs: class activation maps are for [B, T, F], not {inputs.shape}")
    tap = split.prefix.program.out
    if len(tap.shape) != 3:
        raise ValueError(f"score: the tap is {tap.shape}, not feature maps (t, f, C)")
    return split


def _finite(name, array):
    if not isinstance(array, jax.core.Tracer) and not (finite := np.isfinite(array)).all():
        raise ValueError(f"{name}: {np.sum(~finite)} values are NaN or infinite")
    return array
