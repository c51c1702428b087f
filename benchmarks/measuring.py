"""Interleaved timing, peak memory and the roofline of convolutions."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture, Convolution
from idsnn_cli.training.step_graph import WARM_UP, CudaRecorder

Work = Callable[[], Any]


CPU = torch.device("cpu")
# Of a short work in one captured graph.
PASSES = 10


def wait(device: torch.device) -> None:
    """Until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    works: Mapping[str, Work], rounds: int, device: torch.device = CPU, warm_up: int = 1
) -> dict[str, float]:
    """Median seconds of each of ``works``, taken in turns so that a change of the machine's speed meets all alike.

    Each runs ``warm_up`` times before; on a GPU a time ends when ``device`` is done.
    """
    for work in works.values():
        for _ in range(warm_up):
            work()
    wait(device)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            wait(device)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def captured(work: Work, device: torch.device, passes: int = 1) -> Work:
    """``passes`` times ``work``: on a GPU as one captured graph, after it was warmed up."""

    def several() -> None:
        for _ in range(passes):
            work()

    if device.type != "cuda":
        return several
    recorder = CudaRecorder(device)
    for _ in range(WARM_UP):
        recorder.warm_up(several)
    return recorder.record(several)


def maps_of(architecture: Architecture, image: int) -> list[tuple[Convolution, int]]:
    """Every convolution with the height of its input map, for square images of ``image`` pixels."""
    stem = architecture.stem_convolution()
    found = [(stem, image)]
    size = (image + 2 * stem.padding - stem.kernel) // stem.stride + 1
    if architecture.traits()["stem"] == "7x7":
        size = (size - 1) // 2 + 1
    for stage, block in architecture.blocks():
        entry = size
        for conv in architecture.block_convolutions(stage, block):
            found.append((conv, size))
            size = (size + 2 * conv.padding - conv.kernel) // conv.stride + 1
        projection = architecture.shortcut_convolution(stage, block)
        if projection is not None:
            found.append((projection, entry))
    return found


def convolution_floor(
    architecture: Architecture,
    images: int,
    *,
    image: int = 32,
    rounds: int = 3,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> float:
    """Seconds that the convolutions of one training step take alone, each shape in its better layout.

    Forward, gradient of the input (but for the stem) and gradient of the weight; the stem sees ``images`` once, all
    others T times.
    """
    counted: dict[tuple[int, ...], int] = {}
    for index, (conv, size) in enumerate(maps_of(architecture, image)):
        batch = images if index == 0 else images * architecture.timesteps
        key = (batch, conv.in_channels, conv.out_channels, conv.kernel, conv.stride, conv.padding, size, int(index > 0))
        counted[key] = counted.get(key, 0) + 1
    return sum(
        count * min(_convolution_time(key, last, rounds, device, dtype) for last in (False, True))
        for key, count in counted.items()
    )


def _convolution_time(
    key: tuple[int, ...], channels_last: bool, rounds: int, device: torch.device, dtype: torch.dtype
) -> float:
    batch, c_in, c_out, kernel, stride, padding, size, needs_input = key
    layout = torch.channels_last if channels_last else torch.contiguous_format
    # Strided 1x1 convolutions are timed on the pixels that they use, as the package computes them.
    if kernel == 1 and stride > 1:
        size, stride = (size - 1) // stride + 1, 1
    x = torch.rand(batch, c_in, size, size).to(device, dtype, memory_format=layout).requires_grad_(bool(needs_input))
    weight = torch.rand(c_out, c_in, kernel, kernel).to(device, dtype, memory_format=layout).requires_grad_()
    grad = torch.rand_like(F.conv2d(x, weight, stride=stride, padding=padding))

    def work() -> None:
        # Gradients that stay are added to, which is no part of a convolution.
        x.grad = weight.grad = None
        F.conv2d(x, weight, stride=stride, padding=padding).backward(grad)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    # A graph of several: some are shorter on a GPU than their launch from the host.
    passes = PASSES if device.type == "cuda" else 1
    return interleaved({"convolution": captured(work, device, passes)}, rounds, device)["convolution"] / passes


def copy_bandwidth(device: torch.device, rounds: int, size: int = 1 << 29) -> float:
    """Bytes a second that a copy of ``size`` bytes reads and writes."""
    # Random bytes: memory that compresses zeros would be flattered.
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / interleaved({"copy": lambda: target.copy_(source)}, rounds, device)["copy"]


def peak_resident() -> int:
    """The most bytes that this process has held in memory (Linux).

    Not getrusage's figure, which a child takes over from the process that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM line")


def peak_memory(script: str, case: str, variant: str, device: torch.device = CPU) -> int:
    """Bytes that steps of ``variant`` add to a fresh process with torch and the package imported, or to its GPU."""
    command = [sys.executable, script, "--peak-of", variant, "--case", case, "--device", str(device)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    return int(json.loads(done.stdout)["bytes"])
