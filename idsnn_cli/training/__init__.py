"""Fitting a model: objective, optimiser and schedule, loop, resume state, processes, events."""

from idsnn_cli.training.allocator import keep_freed_memory
from idsnn_cli.training.distributed import (
    barrier,
    is_main,
    process_group,
    rank,
    resolve_device,
    sum_over_processes,
    world_size,
)
from idsnn_cli.training.events import BatchDone, Events
from idsnn_cli.training.loop import Fit, fit
from idsnn_cli.training.modes import frozen
from idsnn_cli.training.objective import Lesson, Objective
from idsnn_cli.training.optimiser import learning_rate, make_optimiser
from idsnn_cli.training.state import Progress, load_state, save_state

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
    "sum_over_processes",
    "world_size",
]
