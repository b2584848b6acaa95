"""What several devices, and several processes, compute together; run by test_sharing.py.

    python sharing_worker.py FILE [COORDINATOR N_PROCESSES PROCESS [TIMEOUT]]

writes the results of one mesh of all devices into FILE.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from instrument_ig import machine
from instrument_ig.attribution import checks, integrated_gradients, saliency, smooth_grad

B, T, F = 5, 6, 4  # no multiple of 2, 4 or 8


def results(execution: machine.Execution) -> dict[str, np.ndarray]:
    """Explain some images in several ways."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(B, T, F)).astype(np.float32)
    hidden = jnp.asarray(rng.normal(size=(T * F, 16)) / 3, jnp.float32)
    out = jnp.asarray(rng.normal(size=16), jnp.float32)
    score = lambda image: jax.nn.relu(image.reshape(-1) @ hidden) @ out
    zero, key = np.zeros((T, F), np.float32), jax.random.key(0)
    several = rng.normal(size=(3, B, T, F)).astype(np.float32)
    options = {"execution": execution}
    sought = integrated_gradients(score, images, zero, tolerance=0.005, **options)
    curves = checks.insertion_deletion(
        score, images, zero, sought.values, key=key, levels=4, **options
    )
    found = {
        "fixed": integrated_gradients(score, images, zero, steps=7, **options).values,
        "one": integrated_gradients(score, images[:1], zero, steps=7, **options).values,
        "several": integrated_gradients(score, images, several, steps=5, **options).values,
        "sought": sought.values,
        "steps": sought.steps,
        "residual": sought.residual,
        "saliency": saliency(score, images, **options).values,
        "smooth": smooth_grad(score, images, key=key, draws=9, **options).values,
        "insertion": curves["map"].insertion,
    }
    return {name: np.asarray(values) for name, values in found.items()}


if __name__ == "__main__":
    path, *job = sys.argv[1:]
    if job:
        timeout_s = float(job[3]) if job[3:] else 100
        machine.start_distributed(job[0], int(job[1]), int(job[2]), timeout_s=timeout_s)
    mesh = machine.data_mesh()
    np.savez(path, devices=mesh.size, **results(machine.Execution(mesh=mesh)))
