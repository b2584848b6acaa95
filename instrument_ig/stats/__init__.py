"""Numbers to claims: aggregation, intervals, tests, scores and calibration; numpy and scipy."""

from instrument_ig.stats.calibration import Reliability, brier, reliability
from instrument_ig.stats.claims import Verdict, check_claims
from instrument_ig.stats.intervals import Distances, Summary, pair_quantiles, summarise
from instrument_ig.stats.paper import CLAIMS, Claim
from instrument_ig.stats.permutation import (
    Separation,
    SeparationTest,
    benjamini_hochberg,
    holm,
    permutation_tests,
    within_between,
)
from instrument_ig.stats.resampling import Resamples, interval, resample
from instrument_ig.stats.scores import (
    ClassScores,
    Predictions,
    Score,
    binary_scores,
    class_scores,
    confusion_matrix,
    multiclass_scores,
)

__all__ = [
    "CLAIMS",
    "Claim",
    "ClassScores",
    "Distances",
    "Predictions",
    "Reliability",
    "Resamples",
    "Score",
    "Separation",
    "SeparationTest",
    "Summary",
    "Verdict",
    "benjamini_hochberg",
    "binary_scores",
    "brier",
    "check_claims",
    "class_scores",
    "confusion_matrix",
    "holm",
    "interval",
    "multiclass_scores",
    "pair_quantiles",
    "permutation_tests",
    "reliability",
    "resample",
    "summarise",
    "within_between",
]
