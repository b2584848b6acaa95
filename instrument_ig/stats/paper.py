"""What sections 4.1, 4.2 and 5 of Chen et al. (2024) say, as statements that can be checked.

Their words are read as follows, here and in `claims.py`. "Smallest", "lowest", "largest": below or
above all others. "High", "low": above or below the median of the ten instruments (or the six
spectrograms). "Moderate": between their quartiles. "Cluster in a range": more than half have their
median in it. "Consistent", "variable" with no metric named: low, high in all four metrics.
Sentences that name no metric, score or instrument, and those that repeat another, are left out.
"""

from typing import NamedTuple

INSTRUMENTS = (
    *("bass", "brass", "flute", "guitar", "keyboard"),
    *("mallet", "organ", "reed", "string", "vocal"),
)
SPECTROGRAMS = ("stft", "logmel", "mfcc", "chroma", "spectral_contrast", "tonnetz")
METRICS = ("difference_mean", "kl", "js", "emd")


class Claim(NamedTuple):
    """A statement on subjects and their rivals, to hold in every place and for every quantity.

    Subjects are instruments, compared under a spectrogram (the place), or spectrograms, compared
    for an instrument (the place, or "overall": the mean over instruments).
    """

    id: str  # section and number
    subjects: tuple[str, ...]
    relation: str  # key of `claims.RELATIONS`, or "mostly within" the bounds
    quantities: tuple[str, ...]  # keys of `claims.QUANTITIES`, or "precision", "accuracy"
    places: tuple[str, ...]
    rivals: tuple[str, ...]
    bounds: tuple[float, float] | None = None
    most: bool = False  # in more than half of the places, instead of in all
    note: str = ""  # how the sentence was read


def claim(number, subjects, relation, quantities, places, rivals="", **options):
    """Write a claim with words instead of tuples; rivals are by default all others."""
    subjects = tuple(subjects.split())
    everyone = INSTRUMENTS if subjects[0] in INSTRUMENTS else SPECTROGRAMS
    rivals = tuple(rivals.split()) or tuple(one for one in everyone if one not in subjects)
    quantities, places = tuple(quantities.split()), tuple(places.split())
    return Claim(number, subjects, relation, quantities, places, rivals, **options)


def cluster(number, place, low, high):
    """Return the claim that JS clusters in a range, in each unit that the paper may have meant."""
    units = {"a": "js", "b": "js_bits", "c": "js_root"}
    return (
        claim(number + letter, ALL, "mostly within", unit, place, bounds=(low, high))
        for letter, unit in units.items()
    )


ALL = " ".join(INSTRUMENTS)
EVERY = " ".join(METRICS)
MISPLACED = "said of chroma, in the section on MFCC"
CONTRADICTED = "the words of the text; its numbers, .56 and .55, say the opposite"

CLAIMS = (
    # Scores
    claim("4.1-01", "brass reed", "high", "precision", "tonnetz"),
    claim("4.1-02", "stft", "lowest", "precision", "brass reed", rivals="tonnetz"),
    claim("4.1-03", "mfcc", "high", "precision", ALL, most=True),
    claim("4.1-04", "mallet organ", "highest", "precision", "mfcc"),
    claim("4.1-05", "mfcc", "highest", "accuracy", "overall"),
    claim("4.1-06", "logmel", "high", "accuracy", "overall"),
    claim("4.1-07", "flute mallet", "highest", "accuracy", "logmel"),
    claim("4.1-08", "organ reed", "high", "accuracy", "stft"),
    claim("4.1-09", "stft", "lowest", "accuracy", "overall", "logmel", note=CONTRADICTED),
    claim("4.1-10", "chroma", "moderate", "accuracy", "overall"),
    claim("4.1-11", "brass", "highest", "precision", "chroma"),
    claim("4.1-12", "vocal string", "low", "precision", "chroma"),
    claim("4.1-13", "reed", "highest", "precision", "tonnetz"),
    claim("4.1-14", "mfcc logmel", "highest", "accuracy", "overall"),
    # STFT
    claim("4.2.1-01", "bass brass", "lowest", "difference_mean", "stft"),
    claim("4.2.1-02", "vocal string", "highest", "difference_mean", "stft"),
    claim("4.2.1-03", "mallet keyboard", "moderate", "difference_mean", "stft"),
    claim("4.2.1-04", "bass", "high", "kl", "stft"),
    claim("4.2.1-05", "organ reed", "low", "kl", "stft"),
    claim("4.2.1-06", "guitar flute", "moderate", "kl", "stft"),
    *cluster("4.2.1-07", "stft", 0.4, 0.6),
    claim("4.2.1-08", "bass", "high", "js", "stft"),
    claim("4.2.1-09", "organ", "lowest", "js", "stft"),
    claim("4.2.1-10", "bass", "highest", "emd", "stft"),
    claim("4.2.1-11", "vocal organ", "low", "emd", "stft"),
    claim("4.2.1-12", "organ reed", "low", EVERY, "stft"),
    claim("4.2.1-13", "vocal string", "high", EVERY, "stft"),
    # Log-mel
    claim("4.2.2-01", "string", "highest", "difference_mean", "logmel"),
    claim("4.2.2-02", "bass brass flute guitar", "lowest", "difference_mean", "logmel"),
    claim("4.2.2-03", "organ mallet", "moderate", "difference_mean", "logmel"),
    claim("4.2.2-04", "bass flute", "high", "kl", "logmel"),
    claim("4.2.2-05", "organ string", "low", "kl", "logmel"),
    claim("4.2.2-06", "guitar keyboard", "moderate", "kl", "logmel"),
    *cluster("4.2.2-07", "logmel", 0.5, 0.6),
    claim("4.2.2-08", "bass", "highest", "js", "logmel"),
    claim("4.2.2-09", "string", "lowest", "js", "logmel"),
    claim("4.2.2-10", "bass", "highest", "emd", "logmel"),
    claim("4.2.2-11", "flute reed", "low", "emd", "logmel"),
    claim("4.2.2-12", "guitar keyboard mallet", "moderate", "emd", "logmel"),
    claim("4.2.2-13", "flute reed", "low", EVERY, "logmel"),
    claim("4.2.2-14", "bass", "high", EVERY, "logmel"),
    claim("4.2.2-15", "organ keyboard", "not high", EVERY, "logmel"),
    # MFCC
    claim("4.2.3-01", "keyboard", "highest", "difference_mean difference_mean_spread", "mfcc"),
    claim("4.2.3-02", "brass flute mallet reed string", "lowest", "difference_mean", "mfcc"),
    claim("4.2.3-03", "bass guitar", "moderate", "difference_mean", "mfcc"),
    claim("4.2.3-04", "bass", "high", "kl", "mfcc"),
    claim("4.2.3-05", "organ", "lowest", "kl", "mfcc"),
    *cluster("4.2.3-06", "mfcc", 0.5, 0.7),
    claim("4.2.3-07", "reed", "highest", "js", "mfcc"),
    claim("4.2.3-08", "brass", "lowest", "js", "mfcc"),
    claim("4.2.3-09", "bass", "highest", "emd", "mfcc"),
    claim("4.2.3-10", "organ", "lowest", "emd", "mfcc"),
    claim("4.2.3-11", "string", "high", "emd_spread", "mfcc"),
    claim("4.2.3-12", "bass", "moderate", "difference_mean", "chroma", note=MISPLACED),
    claim("4.2.3-13", "bass", "high", "kl js emd", "chroma", note=MISPLACED),
    claim("4.2.3-14", "guitar", "high", EVERY, "chroma", note=MISPLACED),
    # Chroma, spectral contrast, tonnetz
    claim("4.2.4-01", "brass flute", "low", EVERY, "chroma"),
    claim("4.2.4-02", "keyboard", "high", EVERY, "chroma"),
    claim("4.2.5-01", "reed organ", "low", EVERY, "spectral_contrast"),
    claim("4.2.5-02", "bass guitar", "high", EVERY, "spectral_contrast"),
    claim("4.2.6-01", "reed brass", "low", EVERY, "tonnetz"),
    claim("4.2.6-02", "bass vocal", "high", EVERY, "tonnetz"),
    # Discussion
    claim("5-01", "mfcc", "high", "precision", "bass flute mallet organ vocal"),
    claim("5-02", "bass", "high", EVERY, "stft tonnetz"),
    claim("5-03", "chroma tonnetz", "high", "precision", "brass"),
    claim("5-04", "logmel", "high", "precision", "flute keyboard"),
    claim("5-05", "guitar", "not high", EVERY, "mfcc"),
    claim("5-06", "tonnetz spectral_contrast", "highest", "precision", "reed"),
    claim("5-07", "string", "high", EVERY, "stft chroma"),
    claim("5-08", "logmel", "moderate", "precision", "string"),
    claim("5-09", "mfcc logmel", "high", "precision", "mallet organ"),
    claim("5-10", "organ", "high", EVERY, "stft"),
    claim("5-11", "vocal", "low", "precision", " ".join(SPECTROGRAMS)),
    claim("5-12", "mfcc", "highest", "precision", "vocal"),
)
