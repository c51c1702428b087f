"""How long a network takes: one image alone, and many together."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.evaluation.modes import evaluation_mode
from idsnn_cli.models import Model

WARM_UP, REPEATS, BATCH_REPEATS = 3, 30, 5


@torch.no_grad()
def measure_latency(
    model: Model, images: Tensor, *, repeats: int = REPEATS, batch_repeats: int = BATCH_REPEATS
) -> dict[str, Any]:
    """Time ``model`` in evaluation mode on ``images`` (N, C, H, W) in 0 to 1, N at least 1, on the model's device.

    ``median_ms``, ``p90_ms`` and ``fastest_ms`` are of the first image alone (batch 1) over ``repeats`` runs;
    ``images_per_second`` is of all N at once, ``batch_size``, the median of ``batch_repeats``. Runs before the first
    that counts are warm-up.
    """
    with evaluation_mode(model):
        one = sorted(_seconds(model, images[:1], WARM_UP, repeats))
        many = statistics.median(_seconds(model, images, 1, batch_repeats))
    return {
        "repeats": repeats,
        "median_ms": 1e3 * statistics.median(one),
        "p90_ms": 1e3 * one[min(len(one) - 1, int(0.9 * len(one)))],
        "fastest_ms": 1e3 * one[0],
        "batch_size": len(images),
        "images_per_second": len(images) / many if many > 0 else 0.0,
        "threads": torch.get_num_threads() if images.device.type == "cpu" else None,
    }


def _seconds(model: Model, images: Tensor, warm_up: int, repeats: int) -> list[float]:
    taken = []
    for _ in range(warm_up + repeats):
        _wait(images)
        started = time.perf_counter()
        model(images)
        _wait(images)
        taken.append(time.perf_counter() - started)
    return taken[warm_up:]


def _wait(images: Tensor) -> None:
    """Work on CUDA is only queued until somebody asks for it."""
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
