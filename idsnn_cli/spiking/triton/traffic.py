"""The bytes that the chain of BatchNorm, addition and neuron moves between memory and kernels, launch by launch.

Per-channel vectors and partial sums are left out: they vanish beside the maps. A map that a launch reads twice in one
tile (a smooth surrogate's x, for the membrane and for the gradient) counts once, for the second read finds it in cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from idsnn_cli.spiking.triton.launch import state_bytes


@dataclass(frozen=True, slots=True)
class Launch:
    """One pass over the maps, by the names of the tensors in the kernel's own signature."""

    kernel: str
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()


def launches(*, residual: bool, smooth: bool = False) -> tuple[Launch, ...]:
    """The passes over the maps of one training step, forward and backward."""
    joined = ("residual",) if residual else ()
    again = joined if smooth else ("state",)
    return (
        Launch("partial_statistics", ("x",)),
        Launch("chain_forward", ("x", *joined), ("spikes",) if smooth else ("spikes", "state")),
        Launch("chain_reduce", ("x", "grad", *again)),
        Launch("chain_apply", ("x", "grad", *again), ("dx", "d_residual") if residual else ("dx",)),
    )


def bytes_of(tensor: str, dtype: torch.dtype, steps: int, repeat: bool) -> float:
    """Bytes of ``tensor`` per neuron and step."""
    if tensor == "state":
        return state_bytes(steps, 1)[0] / steps
    once = repeat and tensor in ("x", "dx")
    return dtype.itemsize / (steps if once else 1)


def bytes_per_neuron_step(
    dtype: torch.dtype, steps: int, *, residual: bool = False, smooth: bool = False, repeat: bool = False
) -> dict[str, float]:
    """What each launch moves per neuron and step, by the kernel's name, for maps in ``dtype`` over ``steps`` steps.

    With ``repeat`` one map stands for all steps.
    """
    return {
        launch.kernel: sum(bytes_of(tensor, dtype, steps, repeat) for tensor in (*launch.reads, *launch.writes))
        for launch in launches(residual=residual, smooth=smooth)
    }
