"""Straight paths from baselines to inputs, and the gradients along them.

A path lies in the space of the images or, for a `Split`, in that of the prefix's output. Where the
prefix is affine both are the same path: prefix(b + alpha (x - b)) runs straight from prefix(b) to
prefix(x), so the prefix runs at the two ends of a path and not at every point. The gradient in
image space is the prefix's constant transposed Jacobian applied to the gradient behind it. It is
pulled back at every point, which takes no measurable time: sums of gradients are small as images.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.attribution.programs import call, is_traced
from instrument_ig.attribution.work_items import n_rows, preferred_chunk
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

    maps: Path  # in the space of the maps
    points: Path  # in the space of the argument of `rest`; the same where there is no prefix


class Integrand(NamedTuple):
    """What is integrated along paths: the gradient of `rest`, pulled back through the prefix."""

    rest: Any  # the score from the points on
    prefix: Any | None  # affine; None where maps are wanted in the points' own space

    def value(self, path: Paths, alpha: Array) -> Array:
        """Return the score at one point of one path."""
        return self.rest(path.points.at(alpha))

    def value_and_gradient(self, path: Paths, alpha: Array) -> tuple[Array, Array]:
        """Return the score at one point of one path, and its gradient in the space of the maps."""
        value, gradient = jax.value_and_grad(self.rest)(path.points.at(alpha))
        if self.prefix is None:
            return value, gradient
        return value, jax.vjp(self.prefix, path.maps.start)[1](gradient)[0]


def lay_paths(
    score: Any,
    inputs: Float[Array, "B ..."],
    baselines: Float[Array, "R b ..."],
    at: Space,
) -> tuple[Paths, Integrand]:
    """Lay the paths of every input from every baseline, and say what to integrate along them.

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
        return Paths(images, images), Integrand(score, None)
    with jax.default_matmul_precision("highest"):  # twice per path, and what all points lie on
        points = _by_rows(_through, score.prefix, images)
        if at == "tap":
            return Paths(points, points), Integrand(score.rest, None)
        _check_affine(score.prefix, images, points)
    return Paths(images, points), Integrand(score.rest, score.prefix)


@jax.jit
def _path(inputs, baselines):
    b, r, image = len(inputs), len(baselines), inputs.shape[1:]
    spread = lambda pairs: jnp.broadcast_to(pairs, (b, r, *image)).reshape(b * r, *image)
    return _difference(spread(jnp.swapaxes(baselines, 0, 1)), spread(inputs[:, None]))


def _by_rows(function, prefix, *data):
    """Call function(prefix, *data) on a few rows at a time: a prefix may have large activations."""
    if is_traced((prefix, data)):
        return function(prefix, *data)
    size = preferred_chunk()
    parts = [
        call(function, prefix, *jax.tree.map(lambda leaf, at=at: leaf[at : at + size], data))
        for at in range(0, n_rows(data), size)
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _through(prefix, images):
    end = images.at(jnp.ones((), images.delta.dtype))
    return _difference(jax.vmap(prefix)(images.start), jax.vmap(prefix)(end))


def _difference(start, end):
    precise = np.promote_types(start.dtype, np.float32)
    return Path(start, end.astype(precise) - start.astype(precise))


def _check_affine(prefix, images, points):
    """Refuse a prefix that bends: at its start a path does not head for where it ends.

    This is what is used: gradients are pulled back by the derivative at the start.
    """
    if is_traced((prefix, images)):
        return
    off, size = map(np.asarray, _by_rows(_bend, prefix, images, points))
    worst = np.argmax(off / np.maximum(size, np.finfo(size.dtype).tiny))
    # Rounding is near eps * size.
    if off[worst] > np.sqrt(jnp.finfo(images.start.dtype).eps) * size[worst]:
        raise ValueError(
            f"the prefix is not affine (path {worst} is off by {off[worst]:.2g} of "
            f"{size[worst]:.2g}), so its path has no straight image: pass at='tap' for maps at the "
            "tap, or the whole score"
        )


def _bend(prefix, images, points):
    """Return how far each path ends from where its start heads, and how long it is."""

    def one(path, point):
        value, pull = jax.vjp(prefix, path.start)
        # The transpose of the pull-back: forward mode that reverse-mode-only functions have too.
        push = jax.vjp(lambda change: pull(change)[0], jnp.zeros_like(value))[1]
        (end,) = push(path.delta.astype(path.start.dtype))
        largest = lambda values: jnp.max(jnp.abs(values.astype(point.delta.dtype)))
        return largest(end - point.delta), largest(point.start) + largest(point.delta)

    return jax.vmap(one)(images, points)
