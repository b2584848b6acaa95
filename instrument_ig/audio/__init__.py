"""Notes and where they come from. A data set is its notes and the function that reads one."""

from instrument_ig.audio.files import open_csv, open_folder
from instrument_ig.audio.nsynth import open_nsynth
from instrument_ig.audio.soundfont import open_soundfont

# name -> builder(config, ...) -> Dataset
DATASETS = {
    "soundfont": open_soundfont,
    "nsynth": open_nsynth,
    "folder": open_folder,
    "csv": open_csv,
}
