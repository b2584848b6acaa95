"""Straight paths from baselines to inputs, and how gradients along them become heatmaps.

A path lies in the space of the images or, for a `Split`, in that of the prefix's output. Where the
prefix is affine both are the same path: prefix(b + alpha (x - b)) runs straight from prefix(b) to
prefix(x), and the gradient in image space is the prefix's constant transposed Jacobian applied to
the gradient behind it. So prefix and transpose run once per path and not once per path point.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.attribution.programs import call, is_traced
from instrument_ig.types import Split

Space = Literal["input", "tap"]


class Path(NamedTuple):
    """Positions start + alpha * delta for alpha in [0, 1], one row per (input, baseline)."""

    start: Float[Array, "rows ..."]
    delta: Float[Array, "rows ..."]

    def at(self, alpha):
        """Return the positions in the dtype of `start`, computed in that of `delta`."""
        precise = self.start.astype(self.delta.dtype)
        return (precise + alpha * self.delta).astype(self.start.dtype)


class Paths(NamedTuple):
    """The paths of B inputs from R baselines each; row b * R + r."""

    images: Path  # as the images move
    points: Path  # as the argument of `rest` moves; the same where there is no prefix
    rest: Any  # the score from the points on
    prefix: Any | None  # affine; None where maps are wanted in the points' own space


def lay_paths(
    score: Any,
    inputs: Float[Array, "B ..."],
    baselines: Float[Array, "R b ..."],
    at: Space,
) -> Paths:
    """Lay the paths of every input from every baseline.

    Raises:
        ValueError: `at` is unknown, is "tap" without a `Split`, or is "input" with a `Split` whose
            prefix is not affine (concrete values only).
    """
    if at not in ("input", "tap"):
        raise ValueError(f"at={at!r}: neither input nor tap")
    images = _path(inputs, baselines)
    if not isinstance(score, Split):
        if at == "tap":
            raise ValueError("at='tap' needs a Split at that tap, not a plain score")
        return Paths(images, images, score, None)
    points = call(_through, score.prefix, images)
    if at == "tap":
        return Paths(images, points, score.rest, None)
    _check_affine(score.prefix, images, points)
    return Paths(images, points, score.rest, score.prefix)


def to_maps(paths: Paths, integrals: Float[Array, "rows ..."]) -> Float[Array, "rows ..."]:
    """Turn each path's integral of the gradient into its map: pull back, times the difference."""
    if paths.prefix is None:
        return paths.points.delta * integrals
    return call(_pull_back, paths.prefix, paths.images, integrals)


@jax.jit
def _path(inputs, baselines):
    b, r, image = len(inputs), len(baselines), inputs.shape[1:]
    spread = lambda pairs: jnp.broadcast_to(pairs, (b, r, *image)).reshape(b * r, *image)
    return _difference(spread(jnp.swapaxes(baselines, 0, 1)), spread(inputs[:, None]))


def _through(prefix, images):
    end = images.at(jnp.ones((), images.delta.dtype))
    return _difference(jax.vmap(prefix)(images.start), jax.vmap(prefix)(end))


def _difference(start, end):
    precise = np.promote_types(start.dtype, np.float32)
    return Path(start, end.astype(precise) - start.astype(precise))


def _pull_back(prefix, images, integrals):
    pull = lambda image, integral: jax.vjp(prefix, image)[1](integral)[0]
    return images.delta * jax.vmap(pull)(images.start, integrals.astype(images.start.dtype))


def _check_affine(prefix, images, points):
    """Refuse a prefix that bends: its value half-way along a path is off the straight line."""
    if is_traced((prefix, images)):
        return
    half = jax.tree.map(lambda leaf: leaf[:1], images)
    there = call(_through, prefix, half._replace(delta=half.delta / 2)).delta
    off = float(jnp.max(jnp.abs(there - points.delta[:1] / 2)))
    size = float(jnp.max(jnp.abs(points.start[:1])) + jnp.max(jnp.abs(points.delta[:1])))
    if off > np.sqrt(jnp.finfo(images.start.dtype).eps) * size:  # rounding is near eps * size
        raise ValueError(
            f"the prefix is not affine (off by {off:.2g} of {size:.2g} half-way), so its path has "
            "no straight image: pass at='tap' for maps at the tap, or the whole score"
        )
