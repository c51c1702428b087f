"""One process or many: its device and memory, torchrun's environment, the process group, and who writes."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from idsnn_cli.doctor.apple import mps_disagreement, mps_usable
from idsnn_cli.doctor.devices import find_gpu
from idsnn_cli.errors import DeviceError

# mallopt's parameters in glibc's <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_AHEAD = 64 * 2**20
# Long enough for rank 0 to measure a large test set alone while the others wait.
TIMEOUT = timedelta(hours=2)


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def sum_over_processes(values: Tensor) -> Tensor:
    """``values`` summed over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def sum_gradients(model: nn.Module) -> None:
    """The gradients of ``model`` summed over all processes, in place: one collective, which a CUDA graph can hold.

    Every process must have gradients of the same parameters.
    """
    if world_size() > 1:
        _in_one([p.grad for p in model.parameters() if p.grad is not None], dist.all_reduce)


def share_weights(model: nn.Module) -> None:
    """The main process's parameters and buffers in every process."""
    if world_size() > 1:
        with torch.no_grad():
            _in_one([*model.parameters(), *model.buffers()], lambda flat: dist.broadcast(flat, src=0))


def _in_one(tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]) -> None:
    """``exchange`` of all ``tensors`` in place, those of one dtype as one flat tensor."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in alike])
        exchange(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in alike])
        torch._foreach_copy_(alike, [part.view(tensor.shape) for part, tensor in zip(parts, alike, strict=True)])


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether ``flag`` is set in any process."""
    if world_size() == 1:
        return flag
    return bool(sum_over_processes(torch.tensor([int(flag)], device=device)).item())


def resolve_device(name: str, say: Callable[[str], None] = lambda message: None) -> torch.device:
    """The device a recipe or ``--device`` names; under torchrun each process takes its own GPU.

    ``say`` hears where ``auto`` takes the CPU although the machine has an NVIDIA driver, and why, or an Apple GPU,
    which is taken where it is named alone. Raises :class:`DeviceError` where the device is not there, and for an Apple
    GPU that does not compute what the CPU does.
    """
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        return _apple_gpu()
    available, reason = find_gpu()
    if name == "auto" and not available:
        if mps_usable():
            say("the CPU computes; this machine has an Apple GPU, which --device mps takes")
        if reason is not None:
            say(f"the CPU computes, for torch finds no GPU {reason} (idsnn doctor)")
        return torch.device("cpu")
    if not available:
        raise DeviceError(
            f"device is {name}, but torch finds no usable CUDA GPU",
            "Use --device cpu, or run `idsnn doctor` to see why.",
        )
    index = int(name.partition(":")[2] or os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise DeviceError(
            f"device is cuda:{index}, but there are {torch.cuda.device_count()} GPUs", "Use a smaller number."
        )
    return torch.device("cuda", index)


def _apple_gpu() -> torch.device:
    if not mps_usable():
        raise DeviceError("device is mps, but torch finds no Apple GPU that it can use", "Use --device cpu.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DeviceError(
            "device is mps, and torch has no way for several processes to share it", "Do not use torchrun."
        )
    wrong = mps_disagreement()
    if wrong is not None:
        raise DeviceError(
            f"device is mps, but it does not compute what the CPU does: {wrong}",
            "Use --device cpu, or a newer torch and macOS.",
        )
    return torch.device("mps")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join torchrun's processes (nccl on GPUs, gloo on the CPU) for the time of the block; alone, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def settle_gpu() -> None:
    """Let cuDNN time its algorithms for each shape, of which a training has few, and compute fp32 in fp32.

    By torch's default an fp32 convolution is rounded to TF32 (10 bits) first, which carries spikes across thresholds: a
    network would be measured otherwise than on a CPU.
    """
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False


def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors free, instead of giving it back and faulting it in again.

    By glibc's defaults every tensor above 32 MB, and most above 128 kB, is a fresh mapping whose pages are zeroed on
    first touch. Returns whether that was changed, which it is not where the C library is another one. A training step
    of a thin Spiking ResNet-20 (T = 4, batch 128) took a fifth less time so, with a tenth more memory at its peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _AHEAD}
    return all(mallopt(key, value) == 1 for key, value in wanted.items())
