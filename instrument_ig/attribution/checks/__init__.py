"""Can a map be trusted? Each check tells a good map from a shuffled one."""

from instrument_ig.attribution.checks.completeness import relative_residual
from instrument_ig.attribution.checks.infidelity import infidelity
from instrument_ig.attribution.checks.insertion_deletion import insertion_deletion
from instrument_ig.attribution.checks.randomisation import randomisation
from instrument_ig.attribution.checks.rank_correlation import dependence, rank_correlation
from instrument_ig.attribution.checks.sensitivity import max_sensitivity

__all__ = [
    "dependence",
    "infidelity",
    "insertion_deletion",
    "max_sensitivity",
    "randomisation",
    "rank_correlation",
    "relative_residual",
]
