"""Heatmap x heatmap -> number: difference mean, KL, JS and a certified earth mover's distance."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from instrument_ig.metrics.difference import difference_mean, pairwise_difference_mean
from instrument_ig.metrics.distribution import POLICIES, to_distribution
from instrument_ig.metrics.js import SplitJS, js_divergence, pairwise_js, split_js
from instrument_ig.metrics.kl import kl_divergence, pairwise_kl
from instrument_ig.metrics.transport.emd import emd, pairwise_emd
from instrument_ig.metrics.transport.emd_1d import emd_frequency, emd_time
from instrument_ig.metrics.transport.ground import CATEGORICAL, CIRCULAR, LINEAR
from instrument_ig.metrics.transport.split import SplitEMD, split_emd


class Metric(NamedTuple):
    """A distance between heatmaps, for one pair and for all."""

    pair: Callable  # a, b [T, F] -> a number, or the `Transport` of an earth mover's distance
    pairwise: Callable  # A [N, T, F], B [M, T, F] -> [N, M]
    distributions: bool  # takes what `to_distribution` returns; else heatmaps as they are


METRICS = {
    "difference_mean": Metric(difference_mean, pairwise_difference_mean, False),
    "kl": Metric(kl_divergence, pairwise_kl, True),
    "js": Metric(js_divergence, pairwise_js, True),
    "emd": Metric(partial(emd, solver="flow"), partial(pairwise_emd, solver="flow"), True),
    "emd_sinkhorn": Metric(emd, pairwise_emd, True),
}

__all__ = [
    "CATEGORICAL",
    "CIRCULAR",
    "LINEAR",
    "METRICS",
    "POLICIES",
    "Metric",
    "SplitEMD",
    "SplitJS",
    "difference_mean",
    "emd",
    "emd_frequency",
    "emd_time",
    "js_divergence",
    "kl_divergence",
    "pairwise_difference_mean",
    "pairwise_emd",
    "pairwise_js",
    "pairwise_kl",
    "split_emd",
    "split_js",
    "to_distribution",
]
