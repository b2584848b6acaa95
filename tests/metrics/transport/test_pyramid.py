"""The graph and its coarser versions, against incidence matrices in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.metrics.transport.graph import (
    differences,
    divergence,
    edge_costs,
    flow_cost,
    with_hubs,
)
from instrument_ig.metrics.transport.ground import (
    CATEGORICAL,
    CIRCULAR,
    LINEAR,
    cost_matrix,
    ground_cost,
)
from instrument_ig.metrics.transport.pyramid import coarsen, complete, levels, refine_flow

CASES = {
    "linear": ((13, 22), (LINEAR, LINEAR)),
    "ring": ((21, 12), (LINEAR, CIRCULAR)),
    "odd ring": ((6, 7), (LINEAR, CIRCULAR)),
    "star": ((11, 4), (LINEAR, CATEGORICAL)),
    "one bin": ((1, 17), (LINEAR, LINEAR)),
    "one cell": ((1, 1), (LINEAR, CIRCULAR)),
}
completed = jax.jit(complete, static_argnames="ground")
cases = pytest.mark.parametrize(("shape", "axes"), CASES.values(), ids=CASES)


def shortest_paths(lengths):
    """Floyd and Warshall."""
    for k in range(len(lengths)):
        lengths = np.minimum(lengths, lengths[:, k : k + 1] + lengths[k : k + 1])
    return lengths


def incidence(ground):
    """Edges x nodes, a row of -1 and +1 per edge, read off `differences` of unit potentials."""
    nodes = with_hubs(jnp.zeros([along.bins for along in ground]), ground).shape
    units = np.eye(int(np.prod(nodes)), dtype=np.float32).reshape(-1, *nodes)
    rises = differences(jnp.asarray(units), ground)
    return [np.asarray(rise).reshape(len(units), -1).T for rise in rises], nodes


@pytest.mark.parametrize("axis", [LINEAR, CIRCULAR, CATEGORICAL], ids=lambda axis: axis.kind)
def test_shortest_paths_of_the_graph_are_the_ground_distance(axis):
    ground = ground_cost((4, 5), (LINEAR, axis))
    (time, frequency), nodes = incidence(ground)
    lengths = np.full((np.prod(nodes),) * 2, np.inf)
    np.fill_diagonal(lengths, 0)
    for edges, cost in zip((time, frequency), edge_costs(ground), strict=True):
        for edge in edges:
            (a,), (b,) = np.nonzero(edge < 0)[0:1], np.nonzero(edge > 0)[0:1]
            lengths[a, b] = lengths[b, a] = cost
    cells = np.arange(np.prod(nodes)).reshape(nodes)[:4, :5].ravel()
    found = shortest_paths(lengths)[np.ix_(cells, cells)]
    expected = cost_matrix(ground[0])[:, None, :, None] + cost_matrix(ground[1])[:, None]
    np.testing.assert_allclose(found, expected.reshape(20, 20), rtol=1e-12)  # float64 sums


@cases
def test_divergence_is_the_adjoint_of_differences(shape, axes, rng):
    ground = ground_cost(shape, axes)
    matrices, nodes = incidence(ground)
    flow = tuple(rng.standard_normal(m.shape[0]).astype(np.float32) for m in matrices)
    shaped = differences(jnp.zeros(nodes), ground)
    shaped = tuple(jnp.asarray(m.reshape(s.shape)) for m, s in zip(flow, shaped, strict=True))
    expected = -sum(m.T @ f.astype(np.float64) for m, f in zip(matrices, flow, strict=True))
    # sums of at most 9 float32 numbers of order 1
    np.testing.assert_allclose(divergence(shaped, ground).ravel(), expected, atol=5e-6)


@cases
def test_completing_carries_all_of_it(shape, axes, rng):
    ground = ground_cost(shape, axes)
    leftover = rng.standard_normal(shape)
    leftover = with_hubs(jnp.asarray(leftover - leftover.mean(), jnp.float32), ground)
    flow = completed(leftover, ground)
    # float32 sums of up to 286 numbers of order 1, level by level
    np.testing.assert_allclose(divergence(flow, ground), leftover, atol=2e-5)


def test_completing_neighbours_costs_little():
    ground = ground_cost((64, 64))
    leftover = np.zeros((64, 64), np.float32)
    leftover[1::4, 1::4], leftover[1::4, 2::4] = 1, -1  # 256 times, over the border of a block
    cost = sum(
        float(jnp.sum(part)) for part in flow_cost(completed(jnp.asarray(leftover), ground), ground)
    )
    # each to its neighbour costs 256 / 63, once round the image 64 times as much
    assert 256 / 63 * 0.999 < cost < 6 * 256 / 63


@cases
def test_a_refined_flow_leaves_only_what_blocks_can_settle(shape, axes, rng):
    ground = ground_cost(shape, axes)
    if len(levels(ground)) == 1:
        return
    fine, coarse = levels(ground)[:2]
    excess = rng.standard_normal(shape)
    excess = with_hubs(jnp.asarray(excess - excess.mean(), jnp.float32), ground)
    blocks = coarsen(excess, fine, coarse)
    np.testing.assert_allclose(jnp.sum(blocks), jnp.sum(excess), atol=1e-4)  # reordered sums
    flow = refine_flow(completed(blocks, coarse), fine, coarse)
    left = coarsen(excess - divergence(flow, ground), fine, coarse)
    np.testing.assert_allclose(left, 0 * left, atol=5e-5)  # float32 sums of up to 286 numbers


def test_expensive_edges_are_left_alone():
    bins = [tuple(along.bins for along in ground) for ground in levels(ground_cost((126, 40)))]
    # an edge costs 1/125 and 1/39 at first: frames are halved until one costs as much as a bin
    assert bins[:4] == [(126, 40), (63, 40), (32, 40), (16, 20)]
