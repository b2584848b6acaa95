"""One device, several, and several processes find the same."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from machine.sharing_worker import results

from instrument_ig import machine
from instrument_ig.machine import Execution

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("sharing_worker.py")


def start(path, n_devices, *job, as_users_compile=False):
    left_out = ("SLURM_", "OMPI_", "XLA_") if as_users_compile else ("SLURM_", "OMPI_")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(left_out)
    }
    environment |= {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(n_devices)}
    arguments = [sys.executable, WORKER, path, *job]
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def finished(*processes):
    """Wait for processes and return what they wrote; none of them outlives the test."""
    try:
        return [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def alone():
    return results(Execution())


def assert_equal_but_for_rounding(found, expected):
    assert (found["steps"] == expected["steps"]).all()
    for name, values in expected.items():
        # float32 sums of up to 24 terms, in programs of other batch sizes
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("n_devices", [2, 8])
def test_several_devices_find_what_one_does(n_devices, tmp_path, alone):
    path = tmp_path / "found.npz"
    process = start(path, n_devices, as_users_compile=n_devices == 2)
    (written,) = finished(process)
    assert process.returncode == 0, written
    found = np.load(path)
    assert found["devices"] == n_devices
    assert_equal_but_for_rounding(found, alone)


def test_two_processes_of_two_devices_find_what_one_does(tmp_path, alone):
    address = free_address()
    paths = [tmp_path / f"{process}.npz" for process in range(2)]
    processes = [start(path, 2, address, "2", str(own)) for own, path in enumerate(paths)]
    written = finished(*processes)
    assert [process.returncode for process in processes] == [0, 0], written
    for path in paths:
        found = np.load(path)
        assert found["devices"] == 4
        assert_equal_but_for_rounding(found, alone)


def test_a_partner_that_never_comes_is_named(tmp_path):
    process = start(tmp_path / "found.npz", 1, free_address(), "2", "0", "2")
    (written,) = finished(process)
    assert process.returncode == 1
    assert re.fullmatch(
        r"a partner has not come: process 0 of 2 waited at \S+ for 2\.0 s\n", written
    )
    with pytest.raises(ValueError, match=r"process=3: there are 2"):
        machine.start_distributed("127.0.0.1:1", 2, 3)


def test_a_mesh_of_more_devices_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"n_devices=999: there are \d+"):
        machine.data_mesh(999)
    assert machine.n_devices(Execution(mesh=machine.data_mesh(1))) == 1
    assert machine.data_mesh(1).devices.tolist() == jax.devices()[:1]
