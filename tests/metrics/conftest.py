"""The exact earth mover's distance by POT, which warns of its own syntax when first imported."""

import warnings

import numpy as np
import pytest

from instrument_ig.metrics.transport.ground import cost_matrix


@pytest.fixture(scope="session")
def exact():
    """Return a function: two maps [T, F] and their ground -> W1 of both, normalised, in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ot

    def emd(p, q, ground):
        time, frequency = map(cost_matrix, ground)
        cost = time[:, None, :, None] + frequency[:, None]
        p, q = (np.asarray(x, np.float64).ravel() for x in (p, q))
        return ot.emd2(p / p.sum(), q / q.sum(), cost.reshape(p.size, q.size), numItermax=10**7)

    return emd
