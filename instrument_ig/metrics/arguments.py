"""What every metric asks of its arguments, said in one line; the one door for arrays.

Shapes and types are static, so this holds under `jit` as well. Without it, maps of different shapes
would be broadcast to numbers, bounds on float32 rounding would be claimed of half precision, and
`jit` would misread NumPy arrays of the other byte order and drop masks.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

Maps = Shaped[Array | np.ndarray, "..."]  # floats, checked below


def precise(maps: Maps, name: str = "maps") -> Float[Array, "*batch T F"]:
    """Return maps as an array of JAX, in single precision at least.

    Raises:
      ValueError: they are not real numbers, or not images, or hold a mask.
    """
    if not isinstance(maps, jax.Array | np.ndarray):
        raise ValueError(f"{name} must be an array, got {type(maps).__name__}")
    if isinstance(maps, np.ma.MaskedArray):
        raise ValueError(f"{name} must be a plain array, got a masked one: fill it first")
    if isinstance(maps, np.ndarray):
        maps = maps.astype(maps.dtype.newbyteorder("="), copy=False)
    if not jnp.issubdtype(maps.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating-point numbers, got {maps.dtype}")
    if maps.ndim < 2 or not all(maps.shape[-2:]):
        raise ValueError(f"{name} must be images [..., T, F], got shape {maps.shape}")
    maps = jnp.asarray(maps)
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))


def checked_batches(p: Maps, q: Maps, names: str = "pq") -> tuple[Array, Array]:
    """Return two batches of one shape.

    Raises:
      ValueError: they are not.
    """
    p, q = precise(p, names[0]), precise(q, names[1])
    if p.shape != q.shape:
        shapes = f"{p.shape} and {q.shape}"
        raise ValueError(f"{names[0]} and {names[1]} must have one shape, got {shapes}")
    return p, q


def checked_pair(p: Maps, q: Maps, names: str = "pq") -> tuple[Array, Array]:
    """Return two maps [T, F].

    Raises:
      ValueError: they are not.
    """
    p, q = checked_batches(p, q, names)
    if p.ndim != 2:
        raise ValueError(f"{names[0]} must be one image [T, F], got shape {p.shape}")
    return p, q


def checked_sets(P: Maps, Q: Maps | None, names: str = "PQ") -> tuple[Array, Array | None]:
    """Return sets of maps [N, T, F] and [M, T, F], or None for the second.

    Raises:
      ValueError: they are not, or one is empty.
    """
    given = [(name, maps) for name, maps in zip(names, (P, Q), strict=True) if maps is not None]
    sets = {name: precise(maps, name) for name, maps in given}
    for name, maps in sets.items():
        if maps.ndim != 3 or not len(maps):
            raise ValueError(f"{name} must be one map or more [N, T, F], got shape {maps.shape}")
    first, *other = sets.values()
    if other and other[0].shape[1:] != first.shape[1:]:
        shapes = f"{first.shape[1:]} and {other[0].shape[1:]}"
        raise ValueError(f"the maps of {names[0]} and {names[1]} must have one shape, got {shapes}")
    return first, *(other or [None])


def checked_number(name: str, value: float | Maps) -> float | Array:
    """Return a number that is positive and finite; what is traced is handed through.

    Raises:
      ValueError: it is not.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    if np.ndim(value) or not 0 < value < np.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return float(value)
