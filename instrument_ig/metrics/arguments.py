"""What every metric asks of its maps, said in one line; shapes are static, so under `jit` as well.

Without it, maps of different shapes would be broadcast to numbers, and bounds on float32 rounding
would be claimed of half precision.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

Maps = Shaped[Array | np.ndarray, "..."]  # floats, checked below


def precise(maps: Maps) -> Float[Array, "*batch T F"]:
    """Return maps in single precision at least.

    Raises:
      ValueError: they are not real numbers, or not images.
    """
    maps = jnp.asarray(maps)
    if not jnp.issubdtype(maps.dtype, jnp.floating):
        raise ValueError(f"maps must be floating-point numbers, got {maps.dtype}")
    if maps.ndim < 2:
        raise ValueError(f"maps must be images [..., T, F], got shape {maps.shape}")
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))


def checked_batches(p: Maps, q: Maps) -> tuple[Array, Array]:
    """Return two batches of one shape.

    Raises:
      ValueError: they are not.
    """
    p, q = precise(p), precise(q)
    if p.shape != q.shape:
        raise ValueError(f"both maps must have one shape, got {p.shape} and {q.shape}")
    return p, q


def checked_pair(p: Maps, q: Maps) -> tuple[Array, Array]:
    """Return two maps [T, F].

    Raises:
      ValueError: they are not.
    """
    p, q = checked_batches(p, q)
    if p.ndim != 2:
        raise ValueError(f"a map must be one image [T, F], got shape {p.shape}")
    return p, q


def checked_sets(P: Maps, Q: Maps | None) -> tuple[Array, Array | None]:
    """Return sets of maps [N, T, F] and [M, T, F], or None for the second.

    Raises:
      ValueError: they are not, or one is empty.
    """
    P, Q = precise(P), None if Q is None else precise(Q)
    for maps in (P,) if Q is None else (P, Q):
        if maps.ndim != 3 or not len(maps):
            raise ValueError(f"a set must be one map or more [N, T, F], got shape {maps.shape}")
        if maps.shape[1:] != P.shape[1:]:
            shapes = f"{P.shape[1:]} and {maps.shape[1:]}"
            raise ValueError(f"all maps must have one shape, got {shapes}")
    return P, Q


def checked_number(name: str, value: float) -> float:
    """Return a number that is positive and finite.

    Raises:
      ValueError: it is not.
    """
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value
