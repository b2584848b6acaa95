"""The start of a job of several processes, on one host or many."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax


def start_distributed(
    coordinator: str | None = None,
    n_processes: int | None = None,
    process: int | None = None,
    *,
    local_device_ids: Sequence[int] | None = None,
    timeout_s: float = 300,
) -> None:
    """Join the other processes; to be called first of all, before anything touches a device.

    Args:
      coordinator: "host:port" of process 0. None: SLURM (`srun`), Open MPI, Kubernetes or a TPU's
        environment is asked for it and for the next two.
      n_processes: of the job.
      process: number of this one.
      local_device_ids: devices of this host that this process uses. None: all, or, under SLURM and
        Open MPI, the one with the process's number on its host.
      timeout_s: after which the process ends, with one line, if a partner has not come.

    Raises:
      ValueError: a number that cannot be, or no coordinator where nothing tells of one.
      RuntimeError: a device is in use already.
    """
    options = {
        "local_device_ids": local_device_ids,
        "initialization_timeout": round(timeout_s) + 10,
    }
    if coordinator is None:
        try:
            with _ended_after(timeout_s, "a partner in this job has not come"):
                jax.distributed.initialize(**options)
        except ValueError as error:
            raise ValueError(
                "no coordinator given, and neither SLURM (srun), Open MPI, Kubernetes nor a TPU "
                f"tells of one: {error}"
            ) from None
        return
    if n_processes is None or process is None or not 0 <= process < n_processes:
        raise ValueError(f"process={process}: there are {n_processes}, counted from 0")
    late = f"a partner has not come: process {process} of {n_processes} waited at {coordinator}"
    with _ended_after(timeout_s, late):
        jax.distributed.initialize(
            coordinator, n_processes, process, cluster_detection_method="deactivate", **options
        )


@contextmanager
def _ended_after(seconds: float, reason: str) -> Iterator[None]:
    """End the process if the block takes longer; JAX itself would abort it with a page of text."""

    def end():
        sys.stderr.write(f"{reason} for {seconds} s\n")
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
