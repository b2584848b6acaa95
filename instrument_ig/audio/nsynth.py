"""The NSynth data set in its official layout: folders of examples.json and audio/*.wav.

References:
  Engel et al., Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders, 2017,
  arXiv:1704.01279.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from instrument_ig.audio import checks, split
from instrument_ig.audio.files import dataset_of_files, file_note
from instrument_ig.config import AudioConfig
from instrument_ig.types import Dataset, Note

LEFT_OUT = "synth_lead"  # the eleventh family has no test notes


def open_nsynth(
    config: AudioConfig,
    *,
    data_dir: str | Path,
    labels: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    seed: int = 0,
) -> Dataset:
    """Read the index of NSynth; the label is the family, the group is the instrument.

    Args:
      config: sample rate and duration.
      data_dir: holds nsynth-train and nsynth-test, and nsynth-valid unless 20 % of the training
        notes shall validate; or is one such folder, which is then split by instrument 60-20-20.
      labels: the families to keep; all but synth_lead if empty.
      leave_out: the families not to keep.
      seed: of the split.

    Raises:
      FileNotFoundError: no such folder, no examples.json, or a note without its WAV.
      ValueError: a broken examples.json, a name in it that leads out of its folder, an instrument
        in training and test, unknown families, or a family of one note.
    """
    folder = Path(data_dir)
    checks.folder_exists(folder)
    if (folder / "examples.json").exists():
        notes = split.assign(_read(folder, ""), seed=seed)
    else:
        sides = [side for side in split.SIDES if (folder / f"nsynth-{side}").is_dir()]
        if not sides:
            raise FileNotFoundError(f"{folder} holds neither examples.json nor nsynth-train")
        notes = [note for side in sides for note in _read(folder / f"nsynth-{side}", side)]
        notes = split.complete(notes, seed=seed)
    return dataset_of_files("nsynth", config, notes, labels, leave_out, folder)


def _read(folder: Path, side: str) -> Iterator[Note]:
    index = folder / "examples.json"
    if not index.is_file():
        raise FileNotFoundError(f"no such file: {index}")
    try:
        examples = [
            (name, str(example["instrument_family_str"]), str(example["instrument_str"]))
            for name, example in json.loads(index.read_bytes()).items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is broken: {type(error).__name__} {error}") from error
    for name, family, instrument in examples:
        if Path(name).name != name:
            raise ValueError(f"{index}: the name {name!r} leads out of the folder")
        if family != LEFT_OUT:
            wav = folder / "audio" / f"{name}.wav"
            yield file_note(wav, name=name, label=family, group=instrument, side=side)
