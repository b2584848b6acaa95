"""Does a study confirm what the paper says? Claims checked on bootstrap resamples of its notes.

A claim holds when it is true of at least 95 % of the resamples, does not hold when it is true of at
most 5 %, and is undecided at this number of notes otherwise. Checked on constructed tables in
tests/stats/test_claims.py.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from instrument_ig.stats.intervals import Distances, blocks, pair_quantiles
from instrument_ig.stats.paper import CLAIMS, INSTRUMENTS, Claim
from instrument_ig.stats.resampling import resample
from instrument_ig.stats.scores import Predictions, binary_draws

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "does not hold", "undecided at this N", "not run"


class Verdict(NamedTuple):
    """What became of a claim, as a row."""

    id: str  # section of the paper and number
    claim: str  # what was checked
    verdict: str  # holds, does not hold, undecided at this N, not run
    share: float | None  # of the resamples in which it is true
    observed: bool | None  # is it true of the sample itself
    evidence: str  # numbers of the subjects and of their rivals
    status: str  # why it was not run or not decided, and how the sentence was read


def median(values: Float[np.ndarray, "N N"], weights: Int[np.ndarray, "R N"]):
    """Return the median distance of each resample."""
    return pair_quantiles(values, weights)[:, 0]


def spread(values: Float[np.ndarray, "N N"], weights: Int[np.ndarray, "R N"]):
    """Return the interquartile range of the distances of each resample."""
    low, high = pair_quantiles(values, weights, (0.25, 0.75)).T
    return high - low


# name -> the metric it is made of, and (values, weights) -> one number per resample
QUANTITIES = {
    "difference_mean": ("difference_mean", median),
    "difference_mean_spread": ("difference_mean", spread),
    "kl": ("kl", median),
    "js": ("js", median),  # nats
    "js_bits": ("js", lambda values, weights: median(values / np.log(2), weights)),
    "js_root": ("js", lambda values, weights: median(np.sqrt(values.clip(min=0)), weights)),
    "emd": ("emd", median),
    "emd_spread": ("emd", spread),
}

# name -> (subjects [R, S], rivals [R, O]) -> is it true [R]
RELATIONS = {
    "highest": lambda subjects, rivals: subjects.min(1) > rivals.max(1),
    "lowest": lambda subjects, rivals: subjects.max(1) < rivals.min(1),
    "high": lambda subjects, rivals: subjects.min(1) > _level(subjects, rivals, 0.5),
    "low": lambda subjects, rivals: subjects.max(1) < _level(subjects, rivals, 0.5),
    "moderate": lambda subjects, rivals: (
        (subjects.min(1) >= _level(subjects, rivals, 0.25))
        & (subjects.max(1) <= _level(subjects, rivals, 0.75))
    ),
    "not high": lambda subjects, rivals: subjects.max(1) <= _level(subjects, rivals, 0.75),
}


def check_claims(
    distances: Sequence[Distances],
    predictions: Sequence[Predictions],
    rng: np.random.Generator,
    *,
    claims: Sequence[Claim] = CLAIMS,
    resamples: int = 1000,
    level: float = 0.95,
    report: Callable[[int, int], None] | None = None,
) -> list[Verdict]:
    """Check claims on one study: distances within its instruments, and its classifiers' scores.

    The same resamples of the notes (see `resample`) serve all tables, so that a note missing from
    one instrument's distances is missing from its scores too.

    Args:
      distances: tables of one instrument, or of several, for any of the spectrograms.
      predictions: binary test sets; `instrument` is the positive class.
      rng: source of randomness of the resamples.
      claims: what to check, by default what the paper says.
      resamples: number of resamples.
      level: share of resamples that decides, in (0.5, 1).
      report: called with (done, total) tables.

    Returns:
      One row per claim. "not run" where a spectrogram, an instrument, a metric or a score is
      missing; undecided whenever an instrument that the claim is about has a single group.

    Raises:
      ValueError: if `level` is not in (0.5, 1), or see `resample`.
    """
    if not 0.5 < level < 1:
        raise ValueError(f"level must lie between 0.5 and 1, got {level}")
    tables = [*distances, *predictions]
    drawn = resample(tables, rng, resamples=resamples)
    needed = {key for claim in claims for row in _keys(claim) for key in row}
    numbers = {}
    for done, table in enumerate(tables, 1):
        is_distances = isinstance(table, Distances)
        numbers.update(
            _distance_draws(table, drawn, needed) if is_distances else _score_draws(table, drawn)
        )
        if report is not None:
            report(done, len(tables))
    numbers.update(_overall(numbers))
    lone = {label for label, count in drawn.group_counts().items() if count < 2}
    return [_verdict(claim, numbers, lone, level) for claim in claims]


def _level(subjects, rivals, level):
    return np.quantile(np.hstack([subjects, rivals]), level, axis=1)


def _distance_draws(table, drawn, needed):
    """Yield (quantity, spectrogram, instrument) and the draws [R], where a claim needs them."""
    for instrument, block in blocks(table):
        for name, (metric, statistic) in QUANTITIES.items():
            key = (name, table.spectrogram, instrument)
            if metric == table.metric and key in needed and len(block.names) > 1:
                yield key, statistic(block.values, drawn.of(block.names))


def _score_draws(table, drawn):
    for name, draws in binary_draws(table, drawn).items():
        yield (name, table.spectrogram, table.instrument), draws


def _overall(numbers):
    """Yield the mean of each score over all instruments of the paper, where all are there."""
    for name, spectrogram in {key[:2] for key in numbers if key[0] not in QUANTITIES}:
        every = [numbers.get((name, spectrogram, instrument)) for instrument in INSTRUMENTS]
        if all(draws is not None for draws in every):
            yield (name, spectrogram, "overall"), np.mean(every, axis=0)


def _verdict(claim, numbers, lone, level):
    keys = _keys(claim)
    missing = [key for row in keys for key in row if np.isnan(numbers.get(key, [np.nan])[0])]
    if missing:
        quantity, spectrogram, instrument = missing[0]
        status = f"{len(missing)} numbers missing: {quantity} of {instrument} in {spectrogram}, ..."
        return Verdict(claim.id, _text(claim), NOT_RUN, None, None, "", status)
    values = [np.stack([numbers[key] for key in row], axis=1) for row in keys]  # [R, S + O]
    true = np.mean([_is_true(claim, table) for table in values], axis=0)
    true = true > 0.5 if claim.most else true == 1
    known = ~np.isnan(np.hstack(values)).any(1)
    share = float(true[1:][known[1:]].mean())
    caveat, decidable = _caveat(claim, lone)
    verdict = HOLDS if share >= level else FAILS if share <= 1 - level else UNDECIDED
    evidence = "; ".join(
        f"{quantity} in {place}: {_evidence(claim, table[0])}"
        for (quantity, place), table in zip(_statements(claim), values, strict=True)
    )
    status = "; ".join(part for part in (caveat, claim.note) if part)
    verdict = verdict if decidable else UNDECIDED
    return Verdict(claim.id, _text(claim), verdict, share, bool(true[0]), evidence, status)


def _statements(claim):
    return itertools.product(claim.quantities, claim.places)


def _keys(claim):
    """Return for each statement of a claim the numbers of its subjects, then of their rivals."""
    return [
        [
            (quantity, place, one) if one in INSTRUMENTS else (quantity, one, place)
            for one in claim.subjects + claim.rivals
        ]
        for quantity, place in _statements(claim)
    ]


def _is_true(claim, values):
    subjects, rivals = np.split(values, [len(claim.subjects)], axis=1)
    if claim.bounds is None:
        return RELATIONS[claim.relation](subjects, rivals)
    low, high = claim.bounds
    return ((low <= subjects) & (subjects <= high)).mean(1) > 0.5


def _caveat(claim, lone):
    """Return what instruments of a single group do to a claim, and whether it can be decided."""
    about = lone.intersection(claim.subjects + claim.places)
    if about and not (claim.most or claim.bounds):
        return f"one group only: {', '.join(sorted(about))}", False
    involved = lone if "overall" in claim.places else about | lone.intersection(claim.rivals)
    return (f"by notes alone: {', '.join(sorted(involved))}" if involved else ""), True


def _evidence(claim, values):
    count = len(claim.subjects)
    if claim.bounds is not None:
        low, high = claim.bounds
        return f"{((low <= values) & (values <= high)).sum()} of {count} within"
    subjects = ", ".join(
        f"{name} {value:.3g}" for name, value in zip(claim.subjects, values[:count], strict=True)
    )
    return f"{subjects}; rivals {values[count:].min():.3g} to {values[count:].max():.3g}"


def _text(claim):
    bounds = f" {claim.bounds[0]:g} to {claim.bounds[1]:g}" if claim.bounds else ""
    places = ("most of " if claim.most else "") + ", ".join(claim.places)
    against = f", against {claim.rivals[0]}" if len(claim.rivals) == 1 else ""
    return (
        f"{', '.join(claim.subjects)}: {claim.relation}{bounds} in "
        f"{', '.join(claim.quantities)}, for {places}{against}"
    )
