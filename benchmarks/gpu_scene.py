"""Where a stage of ``gpu.py`` runs and what it tells, and how it measures.

Torch is imported where it is needed: a stage that says what a machine lacks must not need it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPLAYS = 50


class Scene:
    """Where a stage runs, and what it found so far."""

    def __init__(self, device: str, into: Path, limit: float, *, tiny: bool) -> None:
        self.device, self.into, self.limit, self.tiny = device, into, limit, tiny
        self.found: dict[str, Any] = {}

    def tell(self, **figures: Any) -> None:
        self.found |= figures
        fresh = self.into.with_suffix(".part")
        fresh.write_text(json.dumps(self.found))
        fresh.replace(self.into)

    @property
    def place(self) -> Any:
        import torch
        from step import Place

        return Place(torch.device(self.device))

    @property
    def recorder(self) -> Any:
        from idsnn_cli.training.step_graph import CudaRecorder

        return CudaRecorder(self.place.device) if self.place.gpu else Again()

    def batch(self, size: int) -> tuple[Any, Any]:
        """Random images and labels of ten classes."""
        import torch

        generator = torch.Generator().manual_seed(size)
        images = torch.rand(size, 3, 32, 32, generator=generator)
        labels = torch.randint(0, 10, (size,), generator=generator)
        return images.to(self.place.device), labels.to(self.place.device)


class Again:
    """Stands for a graph without a GPU: its replay does the work again, on the captured tensors."""

    def warm_up(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return work


def kernels(scene: Scene, work: Callable[[], object]) -> list[dict[str, Any]]:
    """What ``work`` spends its time in, the longest first: kernels, or on a CPU operators."""
    from measuring import wait
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    gpu = scene.place.gpu
    with profiler(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as seen:
        work()
        wait(scene.place.device)
    rows = [
        {
            "name": event.key[:120],
            "calls": event.count,
            "microseconds": float(event.self_device_time_total if gpu else event.self_cpu_time_total),
        }
        for event in seen.key_averages()
    ]
    return sorted((row for row in rows if row["microseconds"] > 0), key=lambda row: -row["microseconds"])


def median(scene: Scene, work: Callable[[], object], times: int = REPLAYS) -> float:
    """Seconds of ``work``, which waits for the GPU; the median of ``times``."""
    from measuring import wait

    found = []
    for _ in range(2 if scene.tiny else times):
        wait(scene.place.device)
        started = time.perf_counter()
        work()
        wait(scene.place.device)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def forget_peaks(scene: Scene) -> None:
    import torch

    if scene.place.gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(scene.place.device)


def peaks(scene: Scene) -> dict[str, int]:
    """Bytes of torch's allocator since :func:`forget_peaks`; empty without a GPU."""
    import torch

    device = scene.place.device
    if not scene.place.gpu:
        return {}
    return {
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
    }
