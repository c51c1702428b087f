"""Memory for results: large tensors on large pages, for the pages of fresh memory cost more than what fills them."""

from __future__ import annotations

import contextlib
import math
import mmap

import torch
from torch import Tensor

# Bytes. Below it allocators reuse what they have.
_LARGE = 1 << 20


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A new contiguous tensor of zeros with the dtype and device of ``like``."""
    count = math.prod(shape)
    size, advice = count * like.element_size(), getattr(mmap, "MADV_HUGEPAGE", None)
    if like.device.type != "cpu" or size < _LARGE or advice is None:
        return like.new_zeros(shape)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without large pages: small ones are as good, only slower
        pages.madvise(advice)
    # The tensor keeps the mapping; anonymous pages are zero before they are first written.
    return torch.frombuffer(pages, dtype=like.dtype, count=count).view(shape)
