"""BatchNorm, an addition and the neuron as one step: the seam behind which they may be fused."""

from __future__ import annotations

from torch import Tensor, nn

from idsnn_cli.spiking.lif import LIF
from idsnn_cli.spiking.norm import BatchNorm


def fire(norm: BatchNorm, act: nn.Module, x: Tensor, residual: Tensor | None = None, repeat: int = 1) -> Tensor:
    """``act(norm(x) + residual)``, maps (T * N, C, H, W), of any activation.

    With ``repeat`` = T the neuron ``act`` gets the same (N, C, H, W) at every step, and ``residual`` is None.
    """
    y: Tensor = norm(x, repeat)
    if residual is not None:
        # In place: nobody else needs the norm's output, and a fresh map of this size costs its page faults.
        y = y.add_(residual)
    fired: Tensor = act(y, repeat) if isinstance(act, LIF) else act(y)
    return fired
