"""BatchNorm, an addition and the neuron as one step: the seam behind which they may be fused."""

from __future__ import annotations

from torch import Tensor, nn

from idsnn_cli.spiking.kernels import KERNEL_DTYPES, loops_available, takes_kernels
from idsnn_cli.spiking.neuron import LIF
from idsnn_cli.spiking.norm import BatchNorm
from idsnn_cli.spiking.qcfs import QCFS
from idsnn_cli.spiking.traced import is_traced


def fire(norm: BatchNorm, act: nn.Module, x: Tensor, residual: Tensor | None = None, repeat: int = 1) -> Tensor:
    """``act(norm(x) + residual)``, maps (T * N, C, H, W), of any activation.

    With ``repeat`` = T the neuron ``act`` gets the same (N, C, H, W) at every step, and ``residual`` is None. With
    nobody hooked to the layers a neuron's whole step runs as kernels on CUDA and over bf16 maps on the CPU as loops
    that numba compiles, where they are there and sound (:mod:`idsnn_cli.spiking.kernels`); so does that of QCFS.
    """
    # What torch.fx traces with stands for any tensor, and has no device. Triton and numba take a second to import and
    # may be missing.
    whole = isinstance(x, Tensor) and has_all_steps(act, x, repeat)
    if whole and isinstance(act, LIF) and is_fused(norm, act, x, residual):
        from idsnn_cli.spiking.triton.chain import fused_fire

        return fused_fire(norm, act.neuron, act.timesteps, x, residual, repeat)
    if whole and is_compiled(norm, act, x, residual):
        from idsnn_cli.spiking.compiled.chain import compiled_fire
        from idsnn_cli.spiking.compiled.quantised import compiled_quantise

        if isinstance(act, QCFS):
            return compiled_quantise(norm, act.bound(), act.levels, x, residual)
        assert isinstance(act, LIF)
        return compiled_fire(norm, act.neuron, act.timesteps, x, residual, repeat, act.start_shift)
    y: Tensor = norm(x, repeat)
    if residual is not None:
        # In place: nobody else needs the norm's output, and a fresh map of this size costs its page faults.
        y = y.add_(residual)
    fired: Tensor = act(y, repeat) if isinstance(act, LIF) else act(y)
    return fired


def is_fused(norm: BatchNorm, act: nn.Module, x: Tensor, residual: Tensor | None) -> bool:
    """Whether :func:`fire` runs as kernels: with these very layers, no hook on them, all steps of the usual neuron, on
    CUDA.
    """
    # A subclass may compute something else.
    if type(norm) is not BatchNorm or type(act) is not LIF or act.stepping or learns_decay(act):
        return False
    if act.start_shift is not None:  # which the kernels do not know
        return False
    fits = fusible(norm, x, residual) and not is_watched(norm, act)
    return fits and takes_kernels(x, act.neuron, act.timesteps)


def is_compiled(norm: BatchNorm, act: nn.Module, x: Tensor, residual: Tensor | None) -> bool:
    """Whether :func:`fire` runs as loops that numba compiled, on the CPU; conditions as those of :func:`is_fused`."""
    # What records a computation cannot look into loops, and they take all steps.
    if is_traced() or getattr(act, "stepping", False) or learns_decay(act):
        return False
    if x.device.type != "cpu" or type(norm) is not BatchNorm or type(act) not in (LIF, QCFS) or not loops_available():
        return False
    if not fusible(norm, x, residual) or is_watched(norm, act):
        return False
    from idsnn_cli.spiking.compiled.chain import takes_loops, takes_neuron

    if isinstance(act, LIF):
        return takes_neuron(norm, act.neuron, x, residual, act.start_shift)
    return takes_loops(norm, x, residual)


def has_all_steps(act: nn.Module, x: Tensor, repeat: int = 1) -> bool:
    """Whether maps ``x`` are those of all T steps of the neurons ``act``, which refuse any other number by
    themselves."""
    return repeat > 1 or not isinstance(act, LIF) or x.shape[0] % act.timesteps == 0


def learns_decay(act: nn.Module) -> bool:
    """Whether an activation is a layer of neurons that learns its decay: kernels and loops know constant ones alone."""
    return isinstance(act, LIF) and act.decay_logit is not None


def fusible(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None) -> bool:
    """Whether a kernel can stand for the BatchNorm ``norm`` over maps ``x`` (and for the addition of ``residual``).

    It needs maps in one dtype, of four axes, and BatchNorm's parameters and running statistics all there.
    """
    complete = norm.affine and norm.track_running_stats and norm.running_mean is not None
    alike = residual is None or (residual.shape == x.shape and residual.dtype == x.dtype)
    return complete and alike and x.dim() == 4 and x.dtype in KERNEL_DTYPES


def is_watched(*modules: nn.Module) -> bool:
    """Whether a hook waits for a module's own forward or backward, which a fused call would pass by."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(module, name) for module in modules for name in hooks):
        return True
    return any(getattr(nn.modules.module, f"_global{name}") for name in hooks)
