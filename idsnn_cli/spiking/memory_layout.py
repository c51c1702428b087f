"""How maps lie in memory: gap-free steps, NCHW or NHWC, and empty tensors laid out alike."""

from __future__ import annotations

import torch
from torch import Tensor


def kernel_format(device: torch.device) -> torch.memory_format:
    """How kernels, and so maps, are laid out on ``device``: NHWC, but not on Apple's GPUs.

    There torch read kernels that are not contiguous as if they were until August 2026, and computed something else
    without a word (pytorch/pytorch#192212).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def step_format(x: Tensor) -> torch.memory_format:
    """How each x[t] lies in memory where it is one gap-free block, and how to lay it out where it is not."""
    nhwc = x.dim() == 5 and not steps_are_dense(x, torch.contiguous_format) and steps_are_dense(x, torch.channels_last)
    return torch.channels_last if nhwc else torch.contiguous_format


def steps_are_dense(x: Tensor, memory_format: torch.memory_format) -> bool:
    return x.numel() == 0 or x[0].is_contiguous(memory_format=memory_format)


def flat_steps(x: Tensor) -> Tensor:
    """(T, ...) with gap-free steps, as (T, M) over the same memory."""
    size = x[0].numel()
    return x.as_strided((x.shape[0], size), (x.stride(0), 1))


def empty_steps(shape: torch.Size, memory_format: torch.memory_format, like: Tensor) -> Tensor:
    """Uninitialised (T, ...) with the dtype and device of ``like``, each step laid out in ``memory_format``."""
    if memory_format == torch.contiguous_format:
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    merged = (shape[0] * shape[1], *shape[2:])
    return torch.empty(merged, dtype=like.dtype, device=like.device, memory_format=memory_format).view(shape)


def merged_format(x: Tensor) -> torch.memory_format:
    """The layout of maps (T * N, C, H, W), or the one to bring them to: NHWC where they are gap-free so, else NCHW."""
    nhwc = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if nhwc else torch.contiguous_format
