"""The network of Senatori and Nardone (2025), section 3.4.1 and Figure 4."""

from instrument_ig.models import layers
from instrument_ig.models.correlation import correlate


def senatori(
    shape: tuple[int, int], n_outputs: int, correlate: layers.Correlate = correlate
) -> layers.Network:
    """Build three normalised convolutions, the average of each last map, and two dense layers.

    Feature maps conv2d_0 to conv2d_2 are taken after the ReLU, before batch normalisation.

    Args:
        shape: frames and bins of the images. The parameters do not depend on it.
        n_outputs: logits, one per class.
        correlate: the convolution, as for `chen`.

    Cost: 0.9 GFLOP for the gradient of a 126 x 128 image; 0.1 M parameters.

    References: Senatori and Nardone, "Explainable Instrument Classification: From MFCC
        Mean-Vector Models to CNNs on MFCC and Mel-Spectrograms with t-SNE and Grad-CAM
        Insights", 2025.
    """
    stages = []
    for block, channels in enumerate((32, 64, 128)):
        name = f"conv2d_{block}"
        stages += [layers.Convolution(channels, name, correlate), layers.Relu(tap=name)]
        stages += [layers.BatchNormPool(f"batch_norm_{block}")]
    stages += [layers.Average(), layers.Dense(128, "dense_0"), layers.Relu(), layers.Dropout(0.5)]
    stages += [layers.Dense(n_outputs, "dense_1")]
    return layers.Network(tuple(stages), tuple(shape), n_outputs)
