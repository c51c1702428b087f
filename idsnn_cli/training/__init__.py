"""Fitting a model: losses, optimiser and schedule, loop, resume state, processes; each imported on its first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.registry import handed_out

if TYPE_CHECKING:
    from idsnn_cli.training.loop import Fit, fit
    from idsnn_cli.training.objective import Lesson, Objective, frozen
    from idsnn_cli.training.optimiser import learning_rate, make_optimiser
    from idsnn_cli.training.processes import (
        barrier,
        is_main,
        keep_freed_memory,
        process_group,
        rank,
        resolve_device,
        settle_gpu,
        sum_over_processes,
        world_size,
    )
    from idsnn_cli.training.progress import BatchDone, Events, Progress, load_state, save_state

__all__ = [
    "BatchDone",
    "Events",
    "Fit",
    "Lesson",
    "Objective",
    "Progress",
    "barrier",
    "fit",
    "frozen",
    "is_main",
    "keep_freed_memory",
    "learning_rate",
    "load_state",
    "make_optimiser",
    "process_group",
    "rank",
    "resolve_device",
    "save_state",
    "settle_gpu",
    "sum_over_processes",
    "world_size",
]

__getattr__ = handed_out(
    __name__,
    {
        "loop": ("Fit", "fit"),
        "objective": ("Lesson", "Objective", "frozen"),
        "optimiser": ("learning_rate", "make_optimiser"),
        "processes": (
            "barrier",
            "is_main",
            "keep_freed_memory",
            "process_group",
            "rank",
            "resolve_device",
            "settle_gpu",
            "sum_over_processes",
            "world_size",
        ),
        "progress": ("BatchDone", "Events", "Progress", "load_state", "save_state"),
    },
)
