"""One decision for all processes: the main one looks at the run directory, the others do as it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from idsnn_cli.training import is_main, world_size

T = TypeVar("T")


def decided_by_main(decision: Callable[[], T]) -> T:
    """The main process's ``decision()``, in every process; an error there ends it, and torchrun ends the rest."""
    if world_size() == 1:
        return decision()
    held = [decision() if is_main() else None]
    dist.broadcast_object_list(held, src=0)
    return held[0]  # type: ignore[return-value]  # what was broadcast is the main process's T
