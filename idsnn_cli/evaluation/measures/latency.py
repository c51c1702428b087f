"""How long a network takes: one image alone, and many together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.measure import RunningMeasure, Work, many
from idsnn_cli.evaluation.observation import evaluation_mode
from idsnn_cli.figures import ResultTable
from idsnn_cli.models import Model
from idsnn_cli.results import Result

WARM_UP, REPEATS, BATCH_REPEATS = 3, 30, 5


@dataclass(frozen=True, slots=True)
class Latency(Result):
    """Times of the network alone; runs before the first that counts are warm-up."""

    repeats: Annotated[int, "runs of the first image alone (batch 1)"]
    median_ms: Annotated[float, "of those runs, milliseconds"]
    p90_ms: Annotated[float, "the slowest but a tenth of them, milliseconds"]
    fastest_ms: Annotated[float, "milliseconds"]
    batch_size: Annotated[int, "images of the larger batch"]
    images_per_second: Annotated[float, "of the larger batch, the median of a few runs"]
    threads: Annotated[int | None, "that torch used on the CPU; null on a GPU"]


@torch.no_grad()
def measure_latency(
    model: Model, images: Tensor, *, repeats: int = REPEATS, batch_repeats: int = BATCH_REPEATS
) -> Latency:
    """Time ``model`` in evaluation mode on ``images`` (N, C, H, W) in 0 to 1, N at least 1, on the model's device.

    Batch 1 is the first image over ``repeats`` runs; the larger batch is all N at once, ``batch_repeats`` times.
    """
    with evaluation_mode(model):
        one = sorted(_seconds(model, images[:1], WARM_UP, repeats))
        together = statistics.median(_seconds(model, images, 1, batch_repeats))
    return Latency(
        repeats=repeats,
        median_ms=1e3 * statistics.median(one),
        p90_ms=1e3 * one[min(len(one) - 1, int(0.9 * len(one)))],
        fastest_ms=1e3 * one[0],
        batch_size=len(images),
        images_per_second=len(images) / together if together > 0 else 0.0,
        threads=torch.get_num_threads() if images.device.type == "cpu" else None,
    )


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
    """Work on a GPU is only queued until somebody asks for it."""
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    elif images.device.type == "mps":
        torch.mps.synchronize()


class LatencyMeasure(RunningMeasure[Latency]):
    words = "milliseconds at batch 1, images per second at `eval.batch_size`"
    found = Latency

    def run(self, work: Work) -> Latency:
        images, _ = next(iter(work.batches()))
        return measure_latency(work.model, images)

    def table(self, found: Latency, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        threads = "" if found.threads is None else f", {many(found.threads, 'thread')}"
        together = 1e3 * found.batch_size / found.images_per_second
        return ResultTable(
            "latency",
            "latency and throughput",
            ("batch", "median ms", "p90 ms", "fastest ms", "images/s"),
            (
                (1, found.median_ms, found.p90_ms, found.fastest_ms, 1e3 / found.median_ms),
                (found.batch_size, together, None, None, found.images_per_second),
            ),
            (f"batch 1: {found.repeats} runs{threads}",),
        )


MEASURE = LatencyMeasure()
