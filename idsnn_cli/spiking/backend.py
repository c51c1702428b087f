"""Whether Triton's kernels are used: the one decision, from the tensor, the layers and a setting."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Neuron

# Set to 0 to compute everything on CUDA with plain PyTorch, to compare the two. Read once, on the first use.
SWITCH = "IDSNN_FUSED"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@cache
def kernels_available() -> bool:
    """Whether Triton is installed and the environment variable IDSNN_FUSED is not 0."""
    return os.environ.get(SWITCH, "1") != "0" and find_spec("triton") is not None


def takes_kernels(x: Tensor, neuron: Neuron) -> bool:
    """Whether ``neuron`` over ``x`` runs as a kernel: on CUDA, in fp32, bf16 or fp16.

    The kernels know the hard reset from zero alone. Networks of other neurons are mostly converted and only measured,
    which plain PyTorch does well enough.
    """
    return neuron.is_usual and x.is_cuda and x.dtype in DTYPES and kernels_available()


def fusible(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None) -> bool:
    """Whether a kernel can stand for the BatchNorm ``norm`` over maps ``x`` (and for the addition of ``residual``).

    It needs maps in one dtype, of four axes, and BatchNorm's parameters and running statistics all there.
    """
    complete = norm.affine and norm.track_running_stats and norm.running_mean is not None
    alike = residual is None or (residual.shape == x.shape and residual.dtype == x.dtype)
    return complete and alike and x.dim() == 4 and x.dtype in DTYPES


def is_watched(*modules: nn.Module) -> bool:
    """Whether a hook waits for a module's own forward or backward, which a fused call would pass by."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(module, name) for module in modules for name in hooks):
        return True
    return any(getattr(nn.modules.module, f"_global{name}") for name in hooks)
