"""The network of Chen et al. (2024), section 3.2."""

from instrument_ig.models import layers
from instrument_ig.models.correlation import correlate


def chen(
    shape: tuple[int, int], n_outputs: int = 1, correlate: layers.Correlate = correlate
) -> layers.Network:
    """Build three blocks of two convolutions, a dense layer of 256 and the logits.

    Feature maps are named in the order of the convolutions, conv2d_0 to conv2d_5, and are taken
    after the ReLU. For a 126 x 1025 image conv2d_3 is 63 x 512 x 64 and conv2d_5 31 x 256 x 128.

    Args:
        shape: frames and bins of the images.
        n_outputs: logits; one for a binary question.
        correlate: the convolution: maps [B, T, F, C], kernels [h, w, C, D] -> [B, T, F, D], zeros
            around the maps.

    Cost: 2.4 GFLOP for the gradient of a 126 x 128 image; 8.2 M parameters, most of them in the
    dense layer.

    References: Chen, Ghobakhlou, Narayanan, Interpreting CNN models for musical instrument
        recognition using multi-spectrogram heatmap analysis, Front. Artif. Intell. 7, 2024.
    """
    stages = []
    for block, channels in enumerate((32, 64, 128)):
        for name in (f"conv2d_{2 * block}", f"conv2d_{2 * block + 1}"):
            stages += [layers.Convolution(channels, name, correlate), layers.Relu(tap=name)]
        stages += [layers.MaxPool(), layers.Dropout(0.25)]
    stages += [layers.Flatten(), layers.Dense(256, "dense_0"), layers.Relu(), layers.Dropout(0.5)]
    stages += [layers.Dense(n_outputs, "dense_1")]
    return layers.Network(tuple(stages), tuple(shape), n_outputs)
