"""Heatmap x heatmap -> number: difference mean, KL, JS and a certified earth mover's distance."""

from instrument_ig.metrics.difference import difference_mean, pairwise_difference_mean
from instrument_ig.metrics.distribution import POLICIES, to_distribution
from instrument_ig.metrics.emd import emd, pairwise_emd
from instrument_ig.metrics.ground import CATEGORICAL, CIRCULAR, LINEAR
from instrument_ig.metrics.js import SplitJS, js_divergence, pairwise_js, split_js
from instrument_ig.metrics.kl import kl_divergence, pairwise_kl

__all__ = [
    "CATEGORICAL",
    "CIRCULAR",
    "LINEAR",
    "POLICIES",
    "SplitJS",
    "difference_mean",
    "emd",
    "js_divergence",
    "kl_divergence",
    "pairwise_difference_mean",
    "pairwise_emd",
    "pairwise_js",
    "pairwise_kl",
    "split_js",
    "to_distribution",
]
