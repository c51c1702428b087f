"""Sums of membranes (MS blocks): how they come about, and what reads them; the seam behind which both may be fused."""

from __future__ import annotations

from torch import Tensor, nn

from idsnn_cli.spiking.fused import fusible, has_all_steps, is_watched, learns_decay
from idsnn_cli.spiking.kernels import loops_available
from idsnn_cli.spiking.neuron import LIF
from idsnn_cli.spiking.norm import BatchNorm
from idsnn_cli.spiking.qcfs import QCFS
from idsnn_cli.spiking.traced import is_traced


def fire_membranes(act: nn.Module, x: Tensor, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``act(gain * x)`` of membranes (T * N, C, H, W), of any activation, in the dtype of ``x``; and ``x``.

    Whatever else reads the membranes should read the second, for its gradient is then added where the activation's is
    made, instead of in a pass of its own.

    ``gain`` is (1,) or (C,): neurons of threshold theta then fire as those of theta / gain would over ``x``. It is not
    rounded to the maps' dtype. Over bf16 maps on the CPU it runs as loops that numba compiles, where they are there,
    with nobody hooked to the layer.
    """
    if isinstance(x, Tensor) and has_all_steps(act, x) and _takes_activation(act, x, gain):
        from idsnn_cli.spiking.compiled.sums import compiled_fire_scaled, compiled_quantise_scaled

        if isinstance(act, QCFS):
            return compiled_quantise_scaled(gain, act.bound(), act.levels, x)
        assert isinstance(act, LIF)
        return compiled_fire_scaled(gain, act.neuron, act.timesteps, x, act.start_shift)
    fired: Tensor = act(x if gain is None else (x * gain.view(-1, 1, 1)).to(x.dtype))
    return fired, x


def add_normed(norm: BatchNorm, x: Tensor, residual: Tensor) -> Tensor:
    """``norm(x) + residual``, maps (T * N, C, H, W) of one shape; loops of numba as :func:`fire_membranes`."""
    if isinstance(x, Tensor) and _takes_sum(norm, x, residual):
        from idsnn_cli.spiking.compiled.sums import compiled_sum

        return compiled_sum(norm, x, residual)
    y: Tensor = norm(x)
    # In place as in fire(): nobody else reads what the norm gave.
    return y.add_(residual)


def _takes_activation(act: nn.Module, x: Tensor, gain: Tensor | None) -> bool:
    if is_traced() or getattr(act, "stepping", False) or learns_decay(act) or is_watched(act):
        return False
    if x.device.type != "cpu" or type(act) not in (LIF, QCFS) or not loops_available():
        return False
    from idsnn_cli.spiking.compiled.sums import takes_activation

    if isinstance(act, LIF):
        return takes_activation(act.neuron, x, gain, act.start_shift)
    return takes_activation(None, x, gain)


def _takes_sum(norm: BatchNorm, x: Tensor, residual: Tensor) -> bool:
    if is_traced() or x.device.type != "cpu" or type(norm) is not BatchNorm or not loops_available():
        return False
    if not fusible(norm, x, residual) or is_watched(norm):
        return False
    from idsnn_cli.spiking.compiled.chain import takes_loops

    return takes_loops(norm, x, residual)
