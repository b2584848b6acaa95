"""Waveforms to images [T, F]: the six spectrograms, their axes, extraction, standardisation."""

from instrument_ig.spectrograms import reference

# name -> builder(SpectrogramConfig, AudioConfig) -> Spectrogram
SPECTROGRAMS = {
    "stft": reference.stft,
    "logmel": reference.logmel,
    "mfcc": reference.mfcc,
    "chroma": reference.chroma,
    "spectral_contrast": reference.spectral_contrast,
    "tonnetz": reference.tonnetz,
}
