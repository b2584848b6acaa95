import itertools

import numpy as np
import pytest

from instrument_ig.stats import CLAIMS, Distances, Predictions, check_claims
from instrument_ig.stats.claims import QUANTITIES, RELATIONS
from instrument_ig.stats.paper import INSTRUMENTS, METRICS, SPECTROGRAMS, claim
from instrument_ig.stats.scores import SCORES

NOTES = 6


def notes(instrument, groups=3):
    names = np.array([f"{instrument}{i}" for i in range(NOTES)])
    return (
        names,
        np.array([instrument] * NOTES),
        np.array([f"{instrument}-{i % groups}" for i in range(NOTES)]),
    )


def constant(instrument, level, spectrogram="stft", metric="js", groups=3):
    """Distances that are all the same: every resample agrees with the sample."""
    return Distances(
        spectrogram, metric, np.full((NOTES, NOTES), level), *notes(instrument, groups)
    )


def levels(metric="js", spectrogram="stft", **level):
    return [constant(name, value, spectrogram, metric) for name, value in level.items()]


TEN = {name: k / 10 for k, name in enumerate(INSTRUMENTS)}  # bass 0, ..., vocal 0.9


def decisions(instrument, wrong, spectrogram="stft", groups=3):
    """A test set of one instrument, and six notes of others, with some positives missed."""
    own = notes(instrument, groups)
    others = [notes(other) for other in INSTRUMENTS if other != instrument][:NOTES]
    columns = [np.array([column[0] for column in columns]) for columns in zip(*others, strict=True)]
    truth = np.repeat([1, 0], NOTES)
    predicted = np.where(np.arange(2 * NOTES) < wrong, 0, truth)
    named = map(np.concatenate, zip(own, columns, strict=True))
    return Predictions(spectrogram, instrument, truth, predicted, *named)


def verdict_of(statement, distances=(), predictions=(), seed=0, **options):
    rng = np.random.default_rng(seed)
    (row,) = check_claims(list(distances), list(predictions), rng, claims=[statement], **options)
    return row


@pytest.mark.parametrize(
    ("subjects", "relation", "true"),
    [
        ("vocal", "highest", True),
        ("string vocal", "highest", True),
        ("reed vocal", "highest", False),
        ("bass brass flute", "lowest", True),
        ("bass flute", "lowest", False),
        ("mallet vocal", "high", True),
        ("keyboard vocal", "high", False),
        ("keyboard reed string vocal", "high", False),
        ("bass keyboard", "low", True),
        ("bass vocal", "low", False),
        ("mallet", "low", False),
        ("guitar organ", "moderate", True),
        ("guitar string", "moderate", False),
        ("flute organ", "moderate", False),
        ("bass organ", "not high", True),
        ("bass string", "not high", False),
    ],
)
def test_relations_on_ten_known_levels(subjects, relation, true):
    """Levels 0, 0.1, ..., 0.9 have the quartiles 0.225 and 0.675, and the median 0.45."""
    row = verdict_of(claim("x", subjects, relation, "js", "stft"), levels(**TEN), resamples=20)
    assert row.verdict == ("holds" if true else "does not hold")
    assert (row.share, row.observed) == (float(true), true)


def test_undecided_between_equals(rng):
    """Two instruments with the same distances differ by chance alone."""
    values = np.abs(rng.normal(size=(NOTES, 1)) - rng.normal(size=NOTES))
    tables = [constant(name, 0.0)._replace(values=values) for name in ("bass", "brass")]
    row = verdict_of(claim("x", "bass", "highest", "js", "stft", "brass"), tables)
    assert row.verdict == "undecided at this N"
    # ties count as false; with three standard errors of 1000 draws
    assert 0.3 < row.share < 0.55


def test_level_of_decision():
    """Bass is above brass in about 85 % of the resamples."""
    values = np.where(np.add.outer(np.arange(NOTES), np.arange(NOTES)) < 7, 1.0, 0.0)
    tables = [constant("bass", 0.0)._replace(values=values), constant("brass", 0.5)]
    statement = claim("x", "bass", "highest", "js", "stft", "brass")
    row = verdict_of(statement, tables)
    assert 0.7 < row.share < 0.94
    assert row.verdict == "undecided at this N"
    assert verdict_of(statement, tables, level=0.7).verdict == "holds"
    seeds = range(20)  # what the sample says does not depend on the resamples
    assert all(verdict_of(statement, tables, seed=seed, resamples=2).observed for seed in seeds)
    with pytest.raises(ValueError, match=r"got 0\.5"):
        verdict_of(statement, tables, level=0.5)


def test_one_resample_of_the_notes_serves_all_tables(rng):
    """Distances that grow a little with the spectrogram are ordered in every resample."""
    values = rng.random((NOTES, NOTES))
    low, high = (
        constant("bass", 0.0, name)._replace(values=values + shift)
        for name, shift in (("stft", 0.0), ("mfcc", 1e-6))
    )
    row = verdict_of(claim("x", "mfcc", "highest", "js", "bass", "stft"), [high, low])
    assert (row.verdict, row.share) == ("holds", 1.0)


def test_range_in_three_units():
    """0.5 nats are 0.721 bits, and 0.707 as a square root."""
    tables = levels(**dict.fromkeys(INSTRUMENTS[:6], 0.5), **dict.fromkeys(INSTRUMENTS[6:], 9.0))
    for unit, inside in (("js", 0.5), ("js_bits", 0.721), ("js_root", 0.707)):
        for bounds, verdict in (
            ((inside - 0.001, inside + 0.001), "holds"),
            ((inside + 0.001, inside + 0.1), "does not hold"),
        ):
            statement = claim(
                "x", " ".join(INSTRUMENTS), "mostly within", unit, "stft", bounds=bounds
            )
            row = verdict_of(statement, tables, resamples=20)
            assert row.verdict == verdict
            assert row.evidence == f"{unit} in stft: {6 if verdict == 'holds' else 0} of 10 within"


def test_half_is_not_most():
    tables = levels(**dict.fromkeys(INSTRUMENTS[:5], 0.5), **dict.fromkeys(INSTRUMENTS[5:], 9.0))
    statement = claim("x", " ".join(INSTRUMENTS), "mostly within", "js", "stft", bounds=(0.4, 0.6))
    assert verdict_of(statement, tables, resamples=20).verdict == "does not hold"


def test_spread_is_the_interquartile_range(rng):
    wide, narrow = rng.random((2, NOTES, NOTES)) * np.array([1.0, 0.1])[:, None, None]
    tables = [
        constant("bass", 0.0, metric="emd")._replace(values=wide),
        constant("brass", 0.0, metric="emd")._replace(values=narrow + 5),
    ]
    row = verdict_of(claim("x", "bass", "highest", "emd_spread", "stft", "brass"), tables)
    spreads = [
        np.subtract(*np.quantile(v[~np.eye(NOTES, dtype=bool)], (0.75, 0.25)))
        for v in (wide, narrow)
    ]
    assert row.observed
    assert row.evidence.startswith(
        f"emd_spread in stft: bass {spreads[0]:.3g}; rivals {spreads[1]:.3g}"
    )


def test_all_quantities_and_places_are_meant():
    same = levels("js", **TEN) + levels("kl", **TEN) + levels("js", "mfcc", **TEN)
    both = claim("x", "vocal", "highest", "js kl", "stft")
    assert verdict_of(both, same, resamples=20).verdict == "holds"
    upside_down = levels("js", **TEN) + levels("kl", **{name: -v for name, v in TEN.items()})
    assert verdict_of(both, upside_down, resamples=20).verdict == "does not hold"
    assert verdict_of(claim("x", "vocal", "highest", "js", "stft mfcc"), same).verdict == "holds"


def test_scores_and_their_mean():
    better = [decisions(name, k % 2, "mfcc") for k, name in enumerate(INSTRUMENTS)]
    worse = [decisions(name, 4 + k % 2) for k, name in enumerate(INSTRUMENTS)]
    statement = claim("x", "mfcc", "highest", "accuracy", "overall", "stft")
    row = verdict_of(statement, predictions=better + worse)
    assert row.verdict == "holds"
    assert row.evidence == "accuracy in overall: mfcc 0.958; rivals 0.625 to 0.625"
    assert verdict_of(statement, predictions=better + worse[1:]).verdict == "not run"


def test_most_places():
    worse, better = (
        [decisions(name, wrong, spectrogram) for name in INSTRUMENTS[:3]]
        for wrong, spectrogram in ((4, "stft"), (0, "mfcc"))
    )
    worse[0], better[0] = decisions("bass", 0), decisions("bass", 4, "mfcc")
    words = ("x", "mfcc", "highest", "accuracy", "bass brass flute", "stft")
    row = verdict_of(claim(*words), predictions=worse + better)
    assert not row.observed
    assert verdict_of(claim(*words, most=True), predictions=worse + better).observed


def test_single_groups():
    tables = levels(**TEN)
    tables[0], tables[9] = constant("bass", 0.0, groups=1), constant("vocal", 0.9, groups=1)
    subject = verdict_of(claim("x", "vocal", "highest", "js", "stft"), tables, resamples=20)
    assert subject.verdict == "undecided at this N"
    assert subject.status == "one group only: vocal"
    rival = verdict_of(claim("x", "string", "high", "js", "stft"), tables, resamples=20)
    assert (rival.verdict, rival.status) == ("holds", "by notes alone: bass, vocal")


def test_single_group_within_a_mean():
    scores = [
        decisions(name, wrong, spectrogram, groups=1 if name == "organ" else 3)
        for name, (wrong, spectrogram) in itertools.product(INSTRUMENTS, ((0, "mfcc"), (5, "stft")))
    ]
    row = verdict_of(
        claim("x", "mfcc", "highest", "accuracy", "overall", "stft"), predictions=scores
    )
    assert (row.verdict, row.status) == ("holds", "by notes alone: organ")


def test_note_follows_the_claim():
    statement = claim("x", "vocal", "highest", "js", "stft", note="as we read it")
    row = verdict_of(statement, levels(**TEN), resamples=5)
    assert row.status == "as we read it"
    assert row.claim == "vocal: highest in js, for stft"


def test_undefined_distances_are_not_run():
    tables = levels(**TEN)
    tables[3].values[0, 1] = np.nan
    row = verdict_of(claim("x", "vocal", "highest", "js", "stft"), tables, resamples=5)
    assert (row.verdict, row.share, row.observed) == ("not run", None, None)
    assert row.status == "1 numbers missing: js of guitar in stft, ..."


def test_paper_is_well_formed():
    numbers = [statement.id for statement in CLAIMS]
    assert len(set(numbers)) == len(numbers)
    for statement in CLAIMS:
        assert statement.relation in RELATIONS or statement.bounds
        assert {*statement.quantities} <= QUANTITIES.keys() | {*SCORES}
        compared = {*statement.subjects, *statement.rivals}
        assert compared <= {*INSTRUMENTS} or compared <= {*SPECTROGRAMS}
        where = SPECTROGRAMS if compared <= {*INSTRUMENTS} else (*INSTRUMENTS, "overall")
        assert {*statement.places} <= {*where}
        assert not {*statement.subjects} & {*statement.rivals}


def test_paper_on_whole_and_partial_studies(rng):
    """Every claim runs on six spectrograms; on two, those that name no other one."""
    distances = [
        constant(name, rng.random(), spectrogram, metric)
        for spectrogram, name, metric in itertools.product(SPECTROGRAMS, INSTRUMENTS, METRICS)
    ]
    scores = [
        decisions(name, int(rng.integers(0, 5)), spectrogram)
        for spectrogram, name in itertools.product(SPECTROGRAMS, INSTRUMENTS)
    ]
    done = []
    report = lambda *step: done.append(step)
    rows = check_claims(distances, scores, rng, resamples=20, report=report)
    assert [row.id for row in rows] == [statement.id for statement in CLAIMS]
    assert all(row.verdict != "not run" for row in rows)
    assert done[-1] == (len(distances) + len(scores),) * 2
    partial = [
        [t for t in tables if t.spectrogram in ("stft", "logmel")] for tables in (distances, scores)
    ]
    rows = check_claims(*partial, rng, resamples=20)
    for statement, row in zip(CLAIMS, rows, strict=True):
        named = {*statement.subjects, *statement.rivals, *statement.places} & {*SPECTROGRAMS}
        assert (row.verdict != "not run") == (named <= {"stft", "logmel"})
