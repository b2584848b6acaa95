import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig import training
from instrument_ig.models.layers import Dense, Flatten, Network
from instrument_ig.storage import checkpoints

ROOT = str(Path(__file__).parents[2])


def make_tree(step):
    """A tree of every kind of leaf, different for every step."""
    key = jax.random.key(step)
    return {
        "params": {"w": jax.random.normal(key, (64, 16)), "b": jnp.zeros(3, jnp.bfloat16) + step},
        "key": key,
        "epoch": jnp.array(step, jnp.int32),
        "mean": np.arange(4.0) * step,
        "nothing": {},
    }


@pytest.fixture
def saved(tmp_path):
    """A folder with the trees of steps 1 to 3, of which two are kept."""
    for step in (1, 2, 3):
        checkpoints.save(tmp_path / "state", make_tree(step), step=step, metadata={"at": [step]})
    return tmp_path / "state"


def test_what_is_saved_comes_back_whole(saved):
    found = checkpoints.restore(saved, make_tree(0))
    assert (found.step, found.metadata) == (3, {"at": [3]})
    assert checkpoints.digest(found.tree) == checkpoints.digest(make_tree(3))
    assert jax.tree.structure(found.tree) == jax.tree.structure(make_tree(3))
    assert isinstance(found.tree["params"]["w"], jax.Array)
    assert sorted(path.name for path in saved.iterdir()) == ["2", "3"]


def test_plain_trees_need_no_example(tmp_path):
    tree = {"variables": {"params": {"w": np.ones((2, 3), np.float32)}}, "mean": np.arange(3.0)}
    checkpoints.save(tmp_path / "model", tree)
    found = checkpoints.restore(tmp_path / "model").tree
    assert checkpoints.digest(found) == checkpoints.digest(tree)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))


def test_the_digest_sees_values_names_shapes_and_dtypes():
    tree = {"a": np.zeros(4, np.float32), "b": jax.random.key(0)}
    others = [
        {**tree, "a": np.array([0, 0, 0, 1e-30], np.float32)},
        {**tree, "a": np.zeros(4, np.int32)},
        {**tree, "a": np.zeros((2, 2), np.float32)},
        {**tree, "b": jax.random.key(1)},
        {"c": tree["a"], "b": tree["b"]},
    ]
    digests = [checkpoints.digest(one) for one in (tree, *others)]
    assert len(set(digests)) == 6
    assert checkpoints.digest(dict(reversed(tree.items()))) == digests[0]


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_a_byte(newest):
    path = largest_file(newest)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(newest):
    path = largest_file(newest)
    os.truncate(path, path.stat().st_size // 2)


def forget_the_metadata(newest):
    for path in newest.rglob("_METADATA"):
        path.unlink()


def empty(newest):
    shutil.rmtree(newest)
    newest.mkdir()


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, forget_the_metadata, empty])
def test_a_damaged_tree_is_skipped_and_can_be_saved_again(saved, damage, caplog):
    damage(saved / "3")
    found = checkpoints.restore(saved, make_tree(0))
    assert found.step == 2
    assert checkpoints.digest(found.tree) == checkpoints.digest(make_tree(2))
    assert "checkpoint 3" in caplog.text
    checkpoints.save(saved, make_tree(3), step=3)
    assert checkpoints.restore(saved, make_tree(0)).step == 3


def test_a_tree_of_another_kind_is_skipped(saved):
    other = {**make_tree(0), "epoch": jnp.zeros((), jnp.float32)}
    assert checkpoints.restore(saved, other) is None


def test_nothing_is_found_where_nothing_is(tmp_path, saved):
    assert checkpoints.restore(tmp_path / "absent") is None
    checkpoints.discard(saved)
    checkpoints.discard(saved)
    assert not saved.exists()
    assert checkpoints.restore(saved, make_tree(0)) is None


def train_with_checkpoints(folder, on_saved=lambda: None):
    """Train a linear model for ten epochs, saving each, on from where the folder is; the digest."""
    model, key = Network((Flatten(), Dense(2, "dense_0")), (8, 6), 2), jax.random.key(0)
    images = jax.random.normal(key, (8, 8, 6))
    examples = training.Examples(images, jnp.arange(8) % 2, jnp.ones(8))
    state = training.start(model, key, 10)
    if stopped := checkpoints.restore(folder, state):
        state = stopped.tree

    def on_epoch(state):
        checkpoints.save(folder, state, step=int(state.epoch))
        on_saved()

    settings = {"batch_size": 4, "learning_rate": 1e-2, "on_epoch": on_epoch}
    return checkpoints.digest(training.train(model, state, examples, examples, **settings))


def kill_while_training(folder, after, delay_s):
    """Train in another process and kill -9 it some time after so many saved epochs."""
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": ROOT}
    ) as child:
        for _ in range(after):
            child.stdout.readline()
        time.sleep(delay_s)
        child.kill()
    return child.returncode


@pytest.mark.permissive("optax.adam raises a float to an integer power")
def test_killed_trainings_end_as_undisturbed_ones(tmp_path, rng):
    undisturbed = train_with_checkpoints(tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    for _ in range(2):
        # An epoch with its save takes some 0.1 s: kills fall before, into and after a save.
        code = kill_while_training(folder, after=rng.integers(1, 3), delay_s=rng.uniform(0, 0.1))
        assert code == -signal.SIGKILL
    assert 2 <= max(int(path.name) for path in folder.iterdir() if path.name.isdigit()) < 10
    assert train_with_checkpoints(folder) == undisturbed


if __name__ == "__main__":  # the process that is killed
    train_with_checkpoints(Path(sys.argv[1]), lambda: os.write(1, b"saved\n"))
