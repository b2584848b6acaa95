import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from instrument_ig import training
from instrument_ig.models import MODELS, correlate
from instrument_ig.models.layers import Convolution, Dense, Flatten, Network
from instrument_ig.training import Examples, loop
from instrument_ig.training.objective import cross_entropy, evaluate, mean

pytestmark = pytest.mark.permissive("optax.adam raises a float to an integer power")

SHAPE = (8, 6)
RECIPE = {"batch_size": 4, "learning_rate": 3e-3}


# Logistic regression: no dropout, so that steps can be repeated by hand.
LINEAR = Network((Flatten(), Dense(1, "dense_0")), SHAPE, 1)
CHEN = MODELS["chen"](SHAPE, 1)


def make_examples(rng, count, classes=2):
    labels = np.arange(count) % classes
    images = rng.normal(size=(count, *SHAPE)) + labels[:, None, None] * np.linspace(-1, 1, 6)
    return Examples(jnp.asarray(images, jnp.float32), jnp.asarray(labels), jnp.ones(count))


def same(one, other):
    """Assert that two states are equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, _values(one), _values(other))


def _values(state):
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, state)


def test_an_epoch_is_adam_on_shuffled_batches(key, rng):
    examples = make_examples(rng, 10)
    state = training.start(LINEAR, key, 1)
    order_key, _ = jax.random.split(jax.random.fold_in(state.key, 0))
    order = jax.random.permutation(order_key, 10)
    params, adam = state.variables["params"], optax.adam(RECIPE["learning_rate"])
    moments, losses = adam.init(params), []
    for rows in (order[:4], order[4:8], order[8:]):

        def loss(params, rows=rows):
            logits = LINEAR.apply({"params": params}, examples.images[rows]).logits
            return cross_entropy(logits, examples.labels[rows])[0].mean()

        value, gradient = jax.value_and_grad(loss)(params)
        losses += [value] * len(rows)
        change, moments = adam.update(gradient, moments)
        params = optax.apply_updates(params, change)
    done = training.train(LINEAR, state, examples, examples, **RECIPE)
    # Compiled as one program the additions are in another order.
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    jax.tree.map(compare, done.variables["params"], params)
    np.testing.assert_allclose(done.history.train_loss, [np.mean(losses)], rtol=1e-5)
    judged, _ = evaluate(LINEAR, {"params": params}, examples)
    np.testing.assert_allclose(done.history.valid_loss, [mean(judged)[0]], rtol=1e-5)
    np.testing.assert_allclose(done.history.valid_accuracy, [mean(judged)[1]], rtol=1e-5)


@pytest.mark.parametrize(("name", "outputs"), [("chen", 1), ("senatori", 4)])
def test_eight_clips_are_learnt_by_heart(name, outputs, key):
    model = MODELS[name](SHAPE, outputs)
    noise = jax.random.normal(key, (8, *SHAPE))
    examples = Examples(noise, jnp.arange(8) % max(outputs, 2), jnp.ones(8))
    # Three seeds each needed 12 to 26 epochs of one step.
    state = training.start(model, key, 60)
    done = training.train(model, state, examples, examples, batch_size=8, learning_rate=3e-3)
    assert done.history.valid_accuracy[done.best_epoch - 1] == 1
    assert done.best_loss < 0.1


def test_a_training_goes_on_where_it_was_bit_for_bit(key, rng):
    examples, judged = make_examples(rng, 10), make_examples(rng, 6)
    whole = training.train(CHEN, training.start(CHEN, key, 4), examples, judged, **RECIPE)
    for stop in (1, 3):
        kept = []

        def keep_some(state, kept=kept, stop=stop):
            if state.epoch == stop:
                kept.append(jax.tree.map(jnp.copy, state))

        training.train(
            CHEN, training.start(CHEN, key, 4), examples, judged, on_epoch=keep_some, **RECIPE
        )
        same(training.train(CHEN, kept[0], examples, judged, **RECIPE), whole)
    same(training.train(CHEN, jax.tree.map(jnp.copy, whole), examples, judged, **RECIPE), whole)


def test_the_best_epoch_is_kept_and_patience_ends_it(key, rng):
    examples = make_examples(rng, 16)
    # Judged by the opposite of what it learns, every epoch is worse than the one before.
    contrary = examples._replace(labels=1 - examples.labels)
    states = []
    done = training.train(
        LINEAR,
        training.start(LINEAR, key, 50),
        examples,
        contrary,
        patience=3,
        on_epoch=lambda state: states.append(jax.tree.map(jnp.copy, state)),
        **RECIPE,
    )
    assert done.epoch == len(states) == 4
    assert done.best_epoch == 1
    assert np.isnan(done.history.valid_loss).tolist() == [False] * 4 + [True] * 46
    same(done.best_variables, states[0].variables)
    np.testing.assert_array_equal(done.best_loss, states[0].history.valid_loss[0])
    assert (np.diff(done.history.valid_loss[:4]) > 0).all()


def test_padding_of_the_data_set_is_not_there(key, rng):
    examples = make_examples(rng, 9)
    absent = jax.tree.map(lambda a: jnp.concatenate([a, a[:3]]), examples)
    absent = absent._replace(weights=absent.weights.at[9:].set(0))
    other = absent._replace(
        images=absent.images.at[9:].set(99.0), labels=absent.labels.at[9:].set(1)
    )
    run = lambda examples: training.train(
        CHEN, training.start(CHEN, key, 2), examples, examples, **RECIPE
    )
    same(run(absent), run(other))


def test_several_models_train_under_vmap(key, rng):
    examples = [make_examples(rng, 8) for _ in range(2)]
    keys = jax.random.split(key)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *examples)
    states = jax.vmap(lambda key: training.start(LINEAR, key, 1))(keys)
    epoch = lambda state, examples: loop.run_epoch(LINEAR, state, examples, examples, **RECIPE)
    together = jax.vmap(epoch)(states, stacked)
    for i in range(2):
        alone = training.train(
            LINEAR, training.start(LINEAR, keys[i], 1), examples[i], examples[i], **RECIPE
        )
        # Products of one matrix and of two stacked ones add up in another order.
        compare = lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-6)
        jax.tree.map(compare, together.variables, alone.variables)


def test_one_program_serves_all_epochs_models_and_learning_rates(key, rng):
    examples = make_examples(rng, 8)
    before = loop.compiled_epoch()._cache_size()
    for seed, learning_rate in ((key, 1e-3), (jax.random.key(1), 2e-3)):
        training.train(
            MODELS["chen"](SHAPE, 1),
            training.start(CHEN, seed, 2),
            examples,
            examples,
            batch_size=2,
            learning_rate=learning_rate,
        )
    assert loop.compiled_epoch()._cache_size() == before + 1


def test_an_epoch_is_precise_whatever_the_ambient_setting(key, rng):
    seen = set()

    def noting(maps, kernels):
        seen.add(jax.config.jax_default_matmul_precision)
        return correlate(maps, kernels)

    stages = Convolution(2, "conv2d_0", noting), Flatten(), Dense(1, "dense_0")
    model = Network(stages, SHAPE, 1)
    state, examples = training.start(model, key, 1), make_examples(rng, 4)
    seen.clear()
    with jax.default_matmul_precision("bfloat16"):
        training.train(model, state, examples, examples, **RECIPE)
    assert seen == {"highest"}


@pytest.mark.parametrize("empty", ["training", "validation"])
def test_nothing_to_learn_from_is_refused(empty, key, rng):
    examples = {"training": make_examples(rng, 4), "validation": make_examples(rng, 4)}
    examples[empty] = examples[empty]._replace(weights=jnp.zeros(4))
    with pytest.raises(ValueError, match=f"no {empty} examples among 4"):
        training.train(LINEAR, training.start(LINEAR, key, 1), *examples.values(), **RECIPE)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"batch_size": 0}, "batch_size=0"),
        ({}, {"learning_rate": float("nan")}, "learning_rate=nan"),
        ({}, {"patience": 0}, "patience=0"),
        ({"labels": jnp.full(6, 2)}, {}, "labels outside 0 to 1"),
        ({"labels": jnp.zeros(5, int)}, {}, r"\[6, 5, 6\] images, labels, weights"),
        ({"images": jnp.full((6, *SHAPE), jnp.nan)}, {}, "images or weights are NaN"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(change, options, message, key, rng):
    examples = make_examples(rng, 6)
    with pytest.raises(ValueError, match=message):
        training.train(
            CHEN,
            training.start(CHEN, key, 1),
            examples._replace(**change),
            examples,
            **(RECIPE | options),
        )


def test_a_training_without_a_finite_loss_is_refused(key, rng):
    examples = make_examples(rng, 4)
    with pytest.raises(ValueError, match=r"no finite validation loss: is learning_rate=1e\+38"):
        training.train(
            CHEN,
            training.start(CHEN, key, 1),
            examples,
            examples,
            **RECIPE | {"learning_rate": 1e38},
        )
