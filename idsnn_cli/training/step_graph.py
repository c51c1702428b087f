"""A training step captured once as a CUDA graph and replayed: one launch instead of a thousand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from idsnn_cli.training.processes import world_size

Step = Callable[[Tensor, Tensor], None]

# Steps on a side stream before the capture, as torch asks for: they choose algorithms and make the optimiser's state.
WARM_UP = 3


class Recorder(Protocol):
    """What captures work; the GPU's is :class:`CudaRecorder`."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do ``work`` as the capture will find it."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture ``work`` without doing it; returns what does it. Raises :class:`RuntimeError` where that fails."""


class CudaRecorder:
    """Captures with torch.cuda.graph, after warming up on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def warm_up(self, work: Callable[[], None]) -> None:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        # nccl's watchdog asks the device about its collectives from a thread of its own.
        mode = "thread_local" if world_size() > 1 else "global"
        try:
            with torch.cuda.device(self.device), torch.cuda.graph(graph, stream=self.stream, capture_error_mode=mode):
                work()
        except BaseException:
            # torch.cuda.graph leaves its stream only after a capture that succeeded.
            torch.cuda.set_stream(before)
            raise
        replay: Callable[[], None] = graph.replay
        return replay


def is_watched(device: torch.device, precision: str) -> bool:
    """Whether steps run without the host: on CUDA, but not in fp16, whose scaler is asked at each."""
    return device.type == "cuda" and precision != "fp16"


def graph_is_possible(*, asked: bool, watched: bool, draws_on_host: bool) -> bool:
    """Whether a training's steps can be captured at all; ``watched`` is what :func:`is_watched` says of them.

    What needs the host runs step by step: Poisson's spikes are drawn on the CPU. Collectives of nccl are captured.
    """
    return asked and watched and not draws_on_host


class StepGraph:
    """Runs ``step(images, labels)`` for batch after batch: the first ones as they are, then from a graph.

    The graph holds one batch: of the largest shape before the capture, so that a training that goes on at an epoch's
    small last batch has one, too. ``key`` tells what else of a batch the step has in it as a constant; the larger is
    preferred. Another batch, and every batch after a capture that failed, runs ``step`` itself; ``say`` hears about the
    first of either. Every batch is stepped exactly once, however.
    ``step`` must keep all its state in tensors that it changes in place, and set gradients to None at its beginning.
    """

    def __init__(
        self, step: Step, recorder: Recorder, say: Callable[[str], None], key: Callable[[], int] = lambda: 0
    ) -> None:
        self.step, self.recorder, self.say, self.key = step, recorder, say, key
        self.images: Tensor | None = None
        self.labels: Tensor | None = None
        self.held = (-1, -1)
        self.replay: Callable[[], None] | None = None
        self.warmed = 0
        self.failed = False
        self.warned = False

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        if self.failed or not self._fits(images, labels):
            self.step(images, labels)
        elif self.warmed < WARM_UP:
            self.warmed += 1
            self.recorder.warm_up(lambda: self.step(images, labels))
        elif self.replay is not None or self._capture():
            assert self.images is not None
            assert self.labels is not None
            assert self.replay is not None
            self.images.copy_(images)
            self.labels.copy_(labels)
            self.replay()
        else:
            self.step(images, labels)

    def _fits(self, images: Tensor, labels: Tensor) -> bool:
        mine = (len(images), self.key())
        if self.replay is None and mine > self.held:
            self.images, self.labels, self.held = torch.empty_like(images), torch.empty_like(labels), mine
            self.warmed = 0
        assert self.images is not None
        fits = mine == self.held and images.shape == self.images.shape and images.dtype == self.images.dtype
        if not fits and self.replay is not None:
            self._warn(f"a batch of {len(images)} images runs without the CUDA graph, which holds {len(self.images)}")
        return fits

    def _capture(self) -> bool:
        images, labels, step = self.images, self.labels, self.step
        assert images is not None
        assert labels is not None
        try:
            self.replay = self.recorder.record(lambda: step(images, labels))
        except RuntimeError as error:
            self.failed = True
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._warn(f"the training step could not be captured as a CUDA graph and runs without one: {reason}")
        return not self.failed

    def _warn(self, message: str) -> None:
        if not self.warned:
            self.warned = True
            self.say(message)
