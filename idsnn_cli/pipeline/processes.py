"""One decision for all processes: the main one looks at the run directory, the others do as it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

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
