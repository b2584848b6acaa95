import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.utils.class_weight

from instrument_ig.models import MODELS
from instrument_ig.training import Examples, class_weights
from instrument_ig.training.objective import cross_entropy, evaluate, mean


def test_cross_entropy_of_several_logits(rng):
    logits, labels = rng.normal(size=(20, 5)).astype(np.float32), rng.integers(0, 5, 20)
    losses, hits = cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    expected = -scipy.special.log_softmax(logits.astype(float), axis=1)[np.arange(20), labels]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)  # float32
    np.testing.assert_array_equal(hits, logits.argmax(1) == labels)


def test_one_logit_is_binary_cross_entropy(rng):
    logits, labels = rng.normal(size=20).astype(np.float32) * 30, rng.integers(0, 2, 20)
    losses, hits = cross_entropy(jnp.asarray(logits)[:, None], jnp.asarray(labels))
    probability = scipy.special.expit(logits.astype(float))
    expected = -scipy.special.xlogy(labels, probability) - scipy.special.xlog1py(
        1 - labels, -probability
    )
    # float32, and `expected` itself loses digits of 1 - p.
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(hits, (logits > 0) == labels)


def test_class_weights_are_those_of_scikit_learn(rng):
    labels = rng.choice([0, 1, 4], 50, p=[0.7, 0.2, 0.1])
    expected = sklearn.utils.class_weight.compute_sample_weight("balanced", labels)
    np.testing.assert_allclose(class_weights(labels), expected, rtol=1e-6)  # float32
    assert class_weights(labels).dtype == np.float32


@pytest.mark.parametrize(("name", "outputs"), [("chen", 1), ("senatori", 4)])
def test_a_new_model_knows_nothing(name, outputs, key):
    model = MODELS[name]((16, 12), outputs)
    labels = jnp.arange(32) % max(outputs, 2)
    examples = Examples(jax.random.normal(key, (32, 16, 12)), labels, jnp.ones(32))
    sums, _ = jax.jit(lambda key: evaluate(model, model.init(key), examples))(key)
    # Logits of a new network on standardised images are of order 0.1 to 1.
    np.testing.assert_allclose(mean(sums)[0], np.log(max(outputs, 2)), atol=0.3)


def test_examples_of_weight_zero_change_nothing(key):
    # Batch statistics in training are where others could leak in; dropout is off at rate 0.
    model = MODELS["senatori"]((16, 12), 4)
    variables = jax.jit(model.init)(key)
    images = jax.random.normal(key, (6, 16, 12))
    there = jnp.array([1.0, 0.5, 2.0, 0.0, 0.0, 0.0])
    run = jax.jit(lambda *examples: evaluate(model, variables, Examples(*examples), key))
    first, state = run(images, jnp.array([0, 1, 2, 3, 3, 3]), there)
    second, other_state = run(images.at[3:].set(1e3), jnp.array([0, 1, 2, 0, 0, 0]), there)
    jax.tree.map(np.testing.assert_array_equal, (first, state), (second, other_state))
    assert first.count == 3


def test_weights_multiply_losses(key):
    model = MODELS["senatori"]((16, 12), 4)
    variables = jax.jit(model.init)(key)
    examples = Examples(
        jax.random.normal(key, (2, 16, 12)), jnp.array([1, 3]), jnp.array([1.0, 1.0])
    )
    loss = jax.jit(
        lambda weights: evaluate(model, variables, examples._replace(weights=weights))[0].loss
    )
    separate = loss(jnp.array([1.0, 0.0])), loss(jnp.array([0.0, 1.0]))
    together = loss(jnp.array([3.0, 0.5]))
    np.testing.assert_allclose(together, 3 * separate[0] + 0.5 * separate[1], rtol=1e-5)  # float32
