"""The network of Senatori and Nardone (2025), section 3.4.1 and Figure 4."""

from instrument_ig.models import layers
from instrument_ig.types import Model


def senatori(shape: tuple[int, int], n_outputs: int) -> Model:
    """Build three normalised convolutions, the average of each last map, and two dense layers.

    Feature maps conv2d_0 to conv2d_2 are taken after the ReLU, before batch normalisation.

    Args:
        shape: frames and bins of the images. The parameters do not depend on it.
        n_outputs: logits, one per class.

    Cost: 0.9 GFLOP for the gradient of a 126 x 128 image; 0.1 M parameters.

    References: Senatori and Nardone, "Explainable Instrument Classification: From MFCC
        Mean-Vector Models to CNNs on MFCC and Mel-Spectrograms with t-SNE and Grad-CAM
        Insights", 2025.
    """
    stages = []
    for block, channels in enumerate((32, 64, 128)):
        name = f"conv2d_{block}"
        stages += [layers.convolution(channels, name), layers.relu(tap=name)]
        stages += layers.batch_norm_pooling(f"batch_norm_{block}")
    stages += [layers.average(), layers.dense(128, "dense_0"), layers.relu(), layers.dropout(0.5)]
    stages += [layers.dense(n_outputs, "dense_1")]
    return layers.make_model(tuple(stages), shape, n_outputs)
