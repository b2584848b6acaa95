import numpy as np
import pytest
from sklearn import metrics

from instrument_ig.stats import (
    Predictions,
    binary_scores,
    class_scores,
    confusion_matrix,
    multiclass_scores,
)

CLASSES = ("bass", "brass", "flute", "guitar")


def predictions(truth, predicted, groups=None, instrument="", names=None):
    labels = np.array(CLASSES)[truth]
    names = np.array([f"note{i}" for i in range(len(truth))]) if names is None else names
    groups = names if groups is None else groups
    return Predictions("stft", instrument, truth, predicted, names, labels, groups)


def guesses(rng, size=80, right=0.6):
    truth = np.arange(size) % len(CLASSES)
    return truth, np.where(rng.random(size) < right, truth, rng.integers(0, len(CLASSES), size))


def test_scores_against_scikit_learn(rng):
    truth, predicted = guesses(rng)
    confusion = confusion_matrix(truth, predicted, 4)
    np.testing.assert_array_equal(confusion, metrics.confusion_matrix(truth, predicted))
    found = class_scores(confusion)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, predicted)
    np.testing.assert_allclose(found.precision, precision)
    np.testing.assert_allclose(found.recall, recall)
    np.testing.assert_allclose(found.f1, f1)
    np.testing.assert_array_equal(found.support, support)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    for average in ("macro", "weighted"):
        expected = metrics.f1_score(truth, predicted, average=average)
        assert getattr(found, f"{average}_f1") == pytest.approx(expected)


def test_weights_repeat_notes(rng):
    truth, predicted = guesses(rng, size=12)
    weights = rng.integers(0, 3, (2, 3, 12))
    found = confusion_matrix(truth, predicted, 4, weights)
    for index in np.ndindex(2, 3):
        repeated = np.repeat(np.arange(12), weights[index])
        expected = confusion_matrix(truth[repeated], predicted[repeated], 4)
        np.testing.assert_array_equal(found[index], expected)


def test_class_without_support_is_undefined_and_counts_in_no_mean():
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    found = class_scores(confusion_matrix(truth, predicted, 3))
    np.testing.assert_array_equal(found.precision, [1, 1, np.nan])
    np.testing.assert_array_equal(found.recall, [0.5, 1, np.nan])
    assert found.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(class_scores(np.zeros((3, 3))).accuracy)


def test_class_never_predicted_has_precision_zero():
    found = class_scores(confusion_matrix(np.array([0, 1]), np.array([0, 0]), 2))
    np.testing.assert_array_equal(found.precision, [0.5, 0])


def test_multiclass_rows(rng):
    truth, predicted = guesses(rng)
    rows = multiclass_scores(predictions(truth, predicted), (*CLASSES, "reed"), rng, resamples=50)
    by_key = {(row.label, row.score): row for row in rows}
    assert len(by_key) == len(rows) == 3 + 3 * 5
    assert by_key["overall", "accuracy"].value == pytest.approx((truth == predicted).mean())
    recall = by_key["flute", "recall"]
    assert recall.value == pytest.approx((predicted[truth == 2] == 2).mean())
    assert recall.low <= recall.value <= recall.high
    assert (recall.support, recall.status) == (20, "")
    missing = by_key["reed", "f1"]
    assert missing[3:] == (None, None, None, 0, "no support")


def test_interval_of_accuracy_against_the_normal_one(rng):
    truth = np.zeros(400, int)
    rows = multiclass_scores(
        predictions(truth, (np.arange(400) % 5 == 0).astype(int)), CLASSES[:2], rng, resamples=4000
    )
    # the width of 4000 draws is known to about 3 %; a count of 400 is discrete to 1/31 of it
    assert rows[0].high - rows[0].low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 400), rel=0.1)


def test_intervals_of_few_recordings_are_as_wide_as_they_must_be(rng):
    """Forty classes with two recordings, one right and one wrong: variance 1 / 2 in each class."""
    classes = tuple(f"class{k}" for k in range(40))
    truth, right = np.repeat(np.arange(40), 2), np.tile([True, False], 40)
    names = np.array([f"note{i}" for i in range(80)])
    given = Predictions(
        "",
        "",
        truth,
        np.where(right, truth, (truth + 1) % 40),
        names,
        np.array(classes)[truth],
        names,
    )
    overall = multiclass_scores(given, classes, rng, resamples=4000)[0]
    expected = 2 * 1.96 * np.sqrt(40 * 2 * 0.5) / 80
    # accuracies are multiples of 1 / 40, a twelfth of the width
    assert overall.high - overall.low == pytest.approx(expected, rel=0.1)


def test_single_groups(rng):
    truth, predicted = guesses(rng, size=16)
    groups = np.array([f"{t}-{i % 8 // 4 if t else 0}" for i, t in enumerate(truth)])
    rows = multiclass_scores(predictions(truth, predicted, groups), CLASSES, rng, resamples=50)
    assert "one group each, resampled as if of one class: bass" in rows[0].status
    assert rows[0].low is not None
    bass = next(row for row in rows if row.label == "bass")
    assert bass.value is not None
    assert (bass.low, bass.high, bass.status) == (None, None, "no interval: one group")


def binary(rng, instrument, *, positives=True):
    truth, predicted = guesses(rng)
    k = CLASSES.index(instrument)
    kept = np.ones(80, bool) if positives else truth != k
    table = predictions(truth, predicted, instrument=instrument)
    table = table._replace(truth=(truth == k).astype(int), predicted=(predicted == k).astype(int))
    return table._replace(**{f: getattr(table, f)[kept] for f in table._fields[2:]})


def test_binary_rows_against_scikit_learn(rng):
    tables = [binary(rng, "bass"), binary(rng, "flute"), binary(rng, "guitar", positives=False)]
    rows = {(row.label, row.score): row for row in binary_scores(tables, rng, resamples=50)}
    assert len(rows) == 4 * 4
    for table in tables[:2]:
        expected = metrics.precision_recall_fscore_support(
            table.truth, table.predicted, average="binary"
        )[:3]
        found = [rows[table.instrument, s].value for s in ("precision", "recall", "f1")]
        np.testing.assert_allclose(found, expected)
        accuracy = metrics.accuracy_score(table.truth, table.predicted)
        assert rows[table.instrument, "accuracy"].value == pytest.approx(accuracy)
        assert rows[table.instrument, "accuracy"].support == 20
    assert rows["guitar", "accuracy"].status == "no support"
    mean = (rows["bass", "f1"].value + rows["flute", "f1"].value) / 2
    assert rows["overall", "f1"].value == pytest.approx(mean)
    assert rows["overall", "f1"].low < mean < rows["overall", "f1"].high


def test_class_index_out_of_range():
    with pytest.raises(ValueError, match="span 0 to 3, with 3 classes"):
        confusion_matrix(np.array([0, 3]), np.array([0, 1]), 3)


def test_intervals_of_accuracy_cover_with_one_or_two_groups_per_class(rng):
    """Groups are of easy or hard notes: with six classes of one group and three of two."""
    counts = {f"class{k}": 1 + (k > 5) for k in range(9)}
    labels = np.repeat(list(counts), [4 * n for n in counts.values()])
    groups = np.array([f"{label}-{i // 4}" for i, label in enumerate(labels)])
    truth = np.array([list(counts).index(label) for label in labels])
    covered = []
    for _ in range(150):
        chance = {group: rng.uniform(0.1, 0.9) for group in np.unique(groups)}
        right = rng.random(len(labels)) < [chance[group] for group in groups]
        tested = Predictions(
            "stft",
            "",
            truth,
            np.where(right, truth, (truth + 1) % 9),
            np.array([f"note{i:03d}" for i in range(len(labels))]),
            labels,
            groups,
        )
        row = multiclass_scores(tested, list(counts), rng, resamples=200)[0]
        covered.append(row.low <= 0.5 <= row.high)
    # 95 % is meant; within classes alone it is about 70 %
    assert np.mean(covered) > 0.88
