"""Where the kernels' tests run: compiled on a GPU where there is one, else in Triton's interpreter on the CPU.

The interpreter is chosen by an environment variable that must be set before triton is imported, so without a GPU every
module of these tests runs its cases in a process of its own (:func:`in_a_process_of_their_own`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron

ROOT = Path(__file__).resolve().parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
COMPILED = DEVICE.type == "cuda"
INSIDE = COMPILED or os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# The paper's reset, with each gradient, and the soft one from half the threshold of integrate and fire.
RESETS: list[dict[str, Any]] = [
    {"reset": reset, "start": start, "reset_gradient": gradient}
    for reset, start in (("hard", "zero"), ("soft", "half"), ("soft", "zero"), ("hard", "half"))
    for gradient in ("detached", "full")
]

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
inside = pytest.mark.skipif(not INSIDE, reason="runs in Triton's interpreter, in a process of its own")
outside = pytest.mark.skipif(INSIDE, reason="this process runs the cases itself")


def in_a_process_of_their_own(module: str) -> None:
    """Run the tests of the file ``module`` with TRITON_INTERPRET=1; fails with their report."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", module]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@contextmanager
def keeping() -> Iterator[list[Tensor]]:
    """What autograd saves within the block."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def nhwc(x: Tensor) -> Tensor:
    """Maps (T, N, C, H, W) or (n, C, H, W) with the same values, laid out channels last."""
    merged = x.flatten(0, 1) if x.dim() == 5 else x
    return merged.to(memory_format=torch.channels_last).view(x.shape)


def currents(shape: tuple[int, ...], neuron: Neuron, dtype: torch.dtype, seed: int) -> Tensor:
    """Random currents around the threshold; a third stand exactly on it, on a window's edge or one step beside."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=generator) * neuron.v_threshold * 1.5).to(dtype)
    theta, reach = neuron.v_threshold, neuron.surrogate_scale
    marks = torch.tensor([theta, theta - reach, theta + reach, theta - 0.5, theta + 0.5, 0.0], dtype=dtype)
    near = torch.cat([marks, marks * (1 + torch.finfo(dtype).eps), marks * (1 - torch.finfo(dtype).eps)])
    chosen = near[torch.randint(len(near), shape, generator=generator)]
    return torch.where(torch.rand(shape, generator=generator) < 1 / 3, chosen, x).to(DEVICE)


def normal(shape: tuple[int, ...] | torch.Size, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(DEVICE)


def neuron_of(name: str) -> Neuron:
    """One neuron for each surrogate, with constants that are not round in binary."""
    scales = {"rectangle": 0.45, "triangle": 1.1, "sigmoid": 3.7, "arctan": 2.1, "dspike": 2.9}
    return Neuron(0.55, 0.3, name, scales[name])


def assert_gradients(found: Tensor, wanted: Tensor, *, exact: bool) -> None:
    """Equal in every bit where ``exact``, or within a few roundings; the interpreter cuts bf16 instead of rounding."""
    assert found.dtype == wanted.dtype
    if found.dtype == torch.bfloat16 and not COMPILED:
        torch.testing.assert_close(found, wanted, rtol=2**-7, atol=1e-6)
    elif exact:
        assert torch.equal(found, wanted)
    else:
        rtol = 1e-5 if found.dtype == torch.float32 else 2 * torch.finfo(found.dtype).eps
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=1e-6)
