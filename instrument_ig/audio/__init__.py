"""Notes and where they come from. A data set is its notes and the function that reads one."""

from instrument_ig.audio.soundfont import open_soundfont

# name -> builder(config, ...) -> Dataset
DATASETS = {
    "soundfont": open_soundfont,
}
