"""Kullback-Leibler divergence, for pairs and, as one matrix product, for all pairs.

Checked against SciPy's `rel_entr` in tests/metrics/test_kl.py.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.machine import Execution, fitting
from instrument_ig.metrics.arguments import checked_pair, checked_sets
from instrument_ig.metrics.distribution import nan_unless_distributions
from instrument_ig.metrics.pairwise import by_blocks


def kl_divergence(
    p: Float[Array | np.ndarray, "T F"], q: Float[Array | np.ndarray, "T F"]
) -> Float[Array, ""]:
    """Compute KL(p || q) = sum p log(p / q), in nats.

    Args:
      p: a distribution (`to_distribution`).
      q: another on the same cells.

    Returns:
      The divergence: infinite where some q = 0 < p; a cell with p = 0 counts zero whatever q is.
      A map that is no distribution (`are_distributions`) gives NaN.

    Raises:
      ValueError: the maps are not two images of one shape.

    Numerics: zero exactly for p = q; float32 rounding is about 1e-7, of either sign. Shares below
      float32's smallest normal number count as zero. The derivatives are log(p / q) + 1 and
      -p / q; by p it is minus infinity at p = 0 < q, and zero is given there.
    Cost: one logarithm and one division per cell.
    References: Kullback and Leibler, On information and sufficiency, 1951.
    """
    p, q = checked_pair(p, q)
    empty = p == 0
    divergence = jnp.sum(p * _log_ratio(jnp.where(empty, 1, p), jnp.where(empty, 1, q)))
    return divergence * nan_unless_distributions(p, q)


def pairwise_kl(
    P: Float[Array | np.ndarray, "N T F"],
    Q: Float[Array | np.ndarray, "M T F"] | None = None,
    *,
    execution: Execution | None = None,
) -> Float[Array, "N M"]:
    """Compute `kl_divergence` of every pair, within P or from P to Q, as a matrix product.

    sum p log(p D) - P log(Q D)^T over the D = T F cells, plus infinity where a second product finds
    mass of p on cells without q. Taking both terms against the uniform distribution leaves the
    result as it is and makes what cancels small.

    Args:
      P: distributions.
      Q: the columns; by default P again.
      execution: its memory is what blocks of columns get; one device does it all.

    Returns:
      [i, j] is KL(P[i] || Q[j]); never negative. Within P the diagonal is zero. Infinite and
      NaN where `kl_divergence` is.

    Raises:
      ValueError: the maps are not of one shape [T, F], or the memory is too small for three.

    Numerics: the products run at full float32 precision. Against float64 the error was at most
      2e-6 nats on maps of 126 x 128 cells: that of what cancels, so that for nearly equal maps
      `kl_divergence` is the better one.
    Cost: 2 N M D floating-point operations, twice that for blocks of Q that hold a zero.
    """
    P, Q = checked_sets(P, Q)
    columns = len(P) if Q is None else len(Q)
    three_maps = 3 * P.dtype.itemsize * math.prod(P.shape[1:])
    # A product of matrices cuts itself to the cache.
    width = fitting(columns, three_maps, execution or Execution(), hot_bytes=0)
    return _pairwise(P, Q, width)


@partial(jax.jit, static_argnames="width")
def _pairwise(P, Q, width):
    within = Q is None
    p = jnp.reshape(P, (len(P), -1))
    q = p if within else jnp.reshape(Q, (len(Q), -1))

    def entropy(block):
        return jnp.sum(block * _log_density(block), 1) * _mark(block)

    def divergences(block):
        crossed = _products(p, _log_density(block))
        return (entropies[:, None] - crossed + _outside(p, block)) * _mark(block)[None]

    entropies = by_blocks(entropy, p, width)  # no copy of p
    result = jnp.maximum(by_blocks(divergences, q, width), 0)
    return jnp.fill_diagonal(result, 0 * entropies, inplace=False) if within else result


def _mark(flat):
    images = flat[:, None]
    return nan_unless_distributions(images, images)


@jax.custom_jvp
def _log_ratio(p, q):
    return jnp.log(p / q)


@_log_ratio.defjvp
def _log_ratio_jvp(primals, tangents):
    (p, q), (p_tangent, q_tangent) = primals, tangents
    return _log_ratio(p, q), p_tangent / p - q_tangent / q


def _log_density(p):
    """Compute log(p D) over the D cells of the last axis, zero where p is."""
    return jnp.log(jnp.where(p == 0, 1, p * p.shape[-1]))


def _products(p, q):
    return jnp.matmul(p, q.T, precision=jax.lax.Precision.HIGHEST)


def _outside(p, q):
    """Return infinity where p has mass on cells without q, zero elsewhere."""
    mass = jax.lax.cond(
        jnp.any(q == 0),
        lambda: _products(p, (q == 0).astype(p.dtype)),
        lambda: jnp.zeros((len(p), len(q)), p.dtype),
    )
    return jnp.where(mass > 0, jnp.inf, 0)
