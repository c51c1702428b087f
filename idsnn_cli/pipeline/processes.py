"""One decision for all processes: the main one looks at the run directory, the others do as it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from idsnn_cli.errors import IdsnnError
from idsnn_cli.training import is_main, world_size

T = TypeVar("T")


def decided_by_main(decision: Callable[[], T]) -> T:
    """The main process's ``decision()``, in every process.

    An expected error is raised in the main process, which tells the user; the others exit with its code.
    """
    if world_size() == 1:
        return decision()
    held: list[Any] = [None, 0]
    if is_main():
        try:
            held[0] = decision()
        except IdsnnError as error:
            dist.broadcast_object_list([None, error.exit_code], src=0)
            raise
    dist.broadcast_object_list(held, src=0)
    decided, code = held
    if code:
        raise SystemExit(code)
    return decided  # type: ignore[no-any-return]  # what was broadcast is the main process's T


def gpus_of_machine() -> int:
    """How many GPUs torch finds."""
    return torch.cuda.device_count()


def part_of_machine(number: int, jobs: int) -> tuple[str | None, int | None]:
    """Where process ``number`` of ``jobs`` beside each other computes: a GPU in turn where there are several, and so
    many threads where there is none; None for what it is not told.
    """
    gpus = gpus_of_machine()
    if gpus:
        return (f"cuda:{number % gpus}" if gpus > 1 else None), None
    return None, max(torch.get_num_threads() // jobs, 1)
