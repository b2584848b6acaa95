"""What every entry of the table must do. Sinkhorn enters OTT, which fails strict promotion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig import metrics
from instrument_ig.types import Transport

pytestmark = pytest.mark.permissive


@pytest.fixture
def maps(rng):
    return metrics.to_distribution(rng.standard_normal((3, 6, 5)).astype(np.float32), floor=1e-3)


def number(result):
    return result.cost if isinstance(result, Transport) else result


@pytest.mark.parametrize("name", metrics.METRICS)
def test_every_metric_keeps_the_contract(name, maps):
    metric = metrics.METRICS[name]
    traces = []

    @jax.jit
    def pair(p, q):
        traces.append(None)
        return number(metric.pair(p, q))

    single = pair(maps[0], maps[1])
    pair(maps[1], maps[2])
    assert len(traces) == 1
    assert single.dtype == jnp.float32
    pairwise = np.asarray(number(metric.pairwise(maps)))
    # sums in another order; Sinkhorn may stop a round earlier, with marginals 1e-3 off
    np.testing.assert_allclose(single, pairwise[0, 1], rtol=3e-3)
    assert (np.diag(pairwise) == 0).all()
    assert (pairwise[~np.eye(3, dtype=bool)] > 0).all()
    spoiled = pair(maps[0].at[0, 0].set(jnp.nan), maps[1])
    assert np.isnan(spoiled)
