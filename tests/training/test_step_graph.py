"""The graph's decisions with a recorder that only notes, and steps without the host, on the CPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import CONFIG, images, same, small_fit, student, weights
from torch import Tensor, nn

from idsnn_cli.data import eval_batches
from idsnn_cli.errors import NonFiniteError
from idsnn_cli.evaluation.accuracy import evaluate
from idsnn_cli.recipe.schema import Training
from idsnn_cli.training import BatchDone, Events, fit, loop
from idsnn_cli.training.monitor import Watch
from idsnn_cli.training.optimiser import load_optimiser, make_optimiser, optimiser_state, set_rate
from idsnn_cli.training.step_graph import WARM_UP, CudaRecorder, StepGraph, graph_is_possible, is_watched

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class Notes:
    """A recorder whose replay does the captured work again, as a graph does: on the captured tensors."""

    def __init__(self, device: torch.device | None = None, fails: bool = False) -> None:
        self.fails = fails
        self.did: list[str] = []

    def warm_up(self, work: Callable[[], None]) -> None:
        self.did.append("warm up")
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.did.append("record")
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

        def replay() -> None:
            self.did.append("replay")
            work()

        return replay


def sums_of(notes: Notes, sizes: list[int]) -> tuple[list[float], list[str]]:
    """What steps over batches of ``sizes`` images add up, step by step, and what was said."""
    seen: list[float] = []
    said: list[str] = []
    graph = StepGraph(lambda images, labels: seen.append(float(images.sum() + labels.sum())), notes, said.append)
    for number, size in enumerate(sizes):
        graph(torch.full((size, 2), number + 1.0), torch.full((size,), number))
    return seen, said


def wanted(sizes: list[int]) -> list[float]:
    return [size * (2 * (number + 1) + number) for number, size in enumerate(sizes)]


def test_every_batch_is_stepped_once_with_its_own_images() -> None:
    notes, sizes = Notes(), [4] * (WARM_UP + 3)
    seen, said = sums_of(notes, sizes)
    assert seen == wanted(sizes)
    assert notes.did == ["warm up"] * WARM_UP + ["record"] + ["replay"] * 3
    assert said == []


def test_another_shape_runs_without_the_graph_and_is_told_once() -> None:
    notes, sizes = Notes(), [4, 4, 3, 4, 4, 3, 4]
    seen, said = sums_of(notes, sizes)
    assert seen == wanted(sizes)
    assert notes.did == ["warm up"] * WARM_UP + ["record"] + ["replay"] * 2
    assert len(said) == 1
    assert "3 images" in said[0]


def test_going_on_at_a_small_last_batch_leaves_the_graph_to_the_others() -> None:
    notes, sizes = Notes(), [2, *[4] * (WARM_UP + 2), 2, 4]
    seen, said = sums_of(notes, sizes)
    assert seen == wanted(sizes)
    assert notes.did == ["warm up"] * (1 + WARM_UP) + ["record"] + ["replay"] * 3
    assert said == ["a batch of 2 images runs without the CUDA graph, which holds 4"]


def test_what_the_step_has_as_a_constant_is_part_of_the_batch() -> None:
    """As many images here, of another global batch: the graph would divide by the wrong number."""
    notes, sizes = Notes(), [8] * (WARM_UP + 1) + [7, 8]
    seen: list[float] = []
    size = [0]
    graph = StepGraph(lambda images, labels: seen.append(size[0]), notes, lambda line: None, lambda: size[0])
    for size[0] in sizes:
        graph(torch.zeros(4, 2), torch.zeros(4))
    assert seen == sizes
    assert notes.did == ["warm up"] * WARM_UP + ["record"] + ["replay"] * 2


def test_a_capture_that_fails_is_told_once_and_not_tried_again() -> None:
    notes, sizes = Notes(fails=True), [4] * (WARM_UP + 3) + [2]
    seen, said = sums_of(notes, sizes)
    assert seen == wanted(sizes)
    assert notes.did == ["warm up"] * WARM_UP + ["record"]
    assert len(said) == 1
    assert "stream is capturing" in said[0]
    assert "\n" not in said[0]


@pytest.mark.parametrize("changes", [{"asked": False}, {"watched": False}, {"draws_on_host": True}], ids=str)
def test_when_a_graph_is_possible(changes: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"asked": True, "watched": True, "draws_on_host": False}
    assert graph_is_possible(**usual)
    assert not graph_is_possible(**(usual | changes))


@pytest.mark.parametrize(
    ("device", "precision", "watched"),
    [("cuda", "bf16", True), ("cuda:1", "fp32", True), ("cuda", "fp16", False), ("cpu", "fp32", False)],
)
def test_when_steps_run_without_the_host(device: str, precision: str, watched: bool) -> None:
    assert is_watched(torch.device(device), precision) is watched


def as_on_cuda(monkeypatch: pytest.MonkeyPatch, notes: Notes, interval: int = 2) -> None:
    """Steps without the host and from a graph, with the CPU's fused optimisers."""

    def fused(model: nn.Module, config: Training, scales: Mapping[str, float]) -> torch.optim.Optimizer:
        assert not scales
        parameters = list(model.parameters())
        rate = torch.tensor(config.lr)
        return torch.optim.SGD(
            parameters, lr=rate, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )

    monkeypatch.setattr(loop, "make_optimiser", fused)
    monkeypatch.setattr(loop, "is_watched", lambda device, precision: True)
    monkeypatch.setattr(loop, "graph_is_possible", lambda **facts: facts["asked"])
    monkeypatch.setattr(loop, "CudaRecorder", lambda device: notes)
    monkeypatch.setattr(loop, "METRICS_INTERVAL", interval)


class Heard(Events):
    def __init__(self) -> None:
        self.batches: list[BatchDone] = []
        self.said: list[str] = []

    def batch_done(self, event: BatchDone) -> None:
        self.batches.append(event)

    def say(self, message: str) -> None:
        self.said.append(message)


def test_steps_without_the_host_learn_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal losses to rounding; told every second batch and at the epoch's end; the smaller last batch on its own."""
    plain, watched, usual, heard = student(), student(), Heard(), Heard()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = CONFIG.model_copy(update={"clip_norm": 1.0})
    history = fit(small_fit(tmp_path / "a", plain, config, events=usual))
    notes = Notes()
    as_on_cuda(monkeypatch, notes)
    again = fit(small_fit(tmp_path / "b", watched, config, events=heard))
    assert notes.did == ["warm up"] * WARM_UP + ["record"] + ["replay"] * (6 - WARM_UP)
    assert len(heard.said) == 1
    assert [(e.epoch, e.batch) for e in heard.batches] == [(epoch, batch) for epoch in range(3) for batch in (2, 3)]
    for first, second in zip(history, again, strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], abs=1e-4)
        assert first["lr"] == second["lr"]
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(watched)[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_a_captured_step_is_freed_with_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the collector of cycles: a teacher's graph would hold its memory while the student is trained."""
    kept: list[weakref.ref[Any]] = []

    class Watched(Notes):
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            replay = super().record(work)
            kept.extend((weakref.ref(replay), weakref.ref(work)))
            return replay

    as_on_cuda(monkeypatch, Watched())
    model = student()
    gc.collect()
    gc.disable()
    try:
        fit(small_fit(tmp_path, model))
        assert [each() for each in kept] == [None, None]
    finally:
        gc.enable()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_after_a_capture_that_failed_the_stream_is_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.cuda.graph leaves its own stream current where ending the capture fails."""
    current = ["the caller's"]

    class Graph:
        def __init__(self, graph: object, stream: str, capture_error_mode: str) -> None:
            self.stream = stream
            assert capture_error_mode == "global"

        def __enter__(self) -> None:
            current[0] = self.stream

        def __exit__(self, *error: object) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    for name, value in {
        "Stream": lambda device: "the capture's",
        "CUDAGraph": object,
        "graph": Graph,
        "device": lambda device: nullcontext(),
        "current_stream": lambda device: current[0],
        "set_stream": lambda stream: current.__setitem__(0, stream),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    with pytest.raises(RuntimeError, match="previous error"):
        CudaRecorder(torch.device("cuda")).record(lambda: None)
    assert current == ["the caller's"]


def test_a_gradient_that_was_not_finite_is_named_although_others_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 4 of 9 has infinite gradients in one tensor; those of steps 5 and 6 are finite again."""
    as_on_cuda(monkeypatch, Notes(), interval=100)
    model, calls = student(), [0]
    name, parameter = list(model.named_parameters())[3]

    def spoil(gradient: Tensor) -> Tensor:
        calls[0] += 1
        return gradient * torch.inf if calls[0] == 4 else gradient

    parameter.register_hook(spoil)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with pytest.raises(NonFiniteError) as caught:
        fit(small_fit(tmp_path, model, cuda_graph=False))
    assert calls[0] == 6
    assert f"gradient of {name} is not finite at step 4 (epoch 2, batch 1)" in caught.value.message


def test_the_first_bad_step_is_named_and_nothing_after_it_is_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second epoch's first batch (step 4 of 9) has a label's loss of infinity; it is told at the epoch's end."""
    as_on_cuda(monkeypatch, Notes(), interval=100)
    model = student()
    work = small_fit(tmp_path, model, cuda_graph=False)
    objective, calls = work.objective, [0]
    before: dict[str, Tensor] = {}

    class Poisoned:
        teacher = None
        terms = objective.terms
        reads_maps = sees_maps = False

        def teach(self, images: Tensor) -> None:
            return objective.teach(images)  # type: ignore[return-value]  # None: there is no teacher

        def __call__(self, *arguments: Any) -> Tensor:
            calls[0] += 1
            if calls[0] == 4:
                before.update({name: p.detach().clone() for name, p in model.named_parameters()})
            return objective(*arguments) * (torch.inf if calls[0] == 4 else 1)

    work.objective = Poisoned()  # type: ignore[assignment]  # as much of an objective as the loop calls
    with pytest.raises(NonFiniteError) as caught:
        fit(work)
    assert calls[0] == 6
    assert "step 4 (epoch 2, batch 1)" in caught.value.message
    assert "loss" in caught.value.message
    assert same({name: p.detach() for name, p in model.named_parameters()}, before)


def test_the_watch_keeps_the_first_bad_step_and_its_reason() -> None:
    watch = Watch(torch.device("cpu"))
    watch.begin(7)
    one = torch.ones(())
    for loss, norms in ((1, [1, 1, 1]), (1, [1, torch.nan, torch.inf]), (torch.inf, [torch.nan, 1, 1]), (1, [1, 1, 1])):
        each = torch.tensor(norms, dtype=torch.float32)
        watch.judge(one * loss, torch.linalg.vector_norm(each), each)
        watch.add(one * loss, torch.tensor(3), 10)
    assert watch.stopped == 1
    figures = watch.read()
    assert (figures.first_bad, figures.loss_was_finite, figures.correct) == (8, True, 12)
    assert figures.bad_gradient == 1
    watch = Watch(torch.device("cpu"))
    watch.judge(one, one, one[None])
    watch.add(one / 4, torch.tensor(3), 10)
    assert watch.stopped == 0
    figures = watch.read()
    assert (figures.loss_sum, figures.correct, figures.first_bad, figures.bad_gradient) == (2.5, 3, None, None)
    assert watch.read().correct == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_state_goes_from_device_to_device(optimizer: str) -> None:
    """A rate in a tensor is stored as a number, and the tensor that a graph reads stays the same one."""
    config = CONFIG.model_copy(update={"optimizer": optimizer, "momentum": 0.9})
    here = make_optimiser(nn.Linear(3, 2), config)
    there = make_optimiser(nn.Linear(3, 2), config)
    rate = torch.tensor(0.5)
    there.param_groups[0].update(lr=rate, fused=True)
    for optimiser in (here, there):
        for parameter in optimiser.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
    set_rate(there, 0.125)
    assert float(rate) == 0.125
    stored = optimiser_state(there)
    assert stored["param_groups"][0]["lr"] == 0.125
    load_optimiser(here, stored)
    assert not here.param_groups[0]["fused"]
    load_optimiser(there, optimiser_state(here))
    assert there.param_groups[0]["lr"] is rate
    assert there.param_groups[0]["fused"]
    there.step()


@needs_gpu
def test_on_a_gpu_a_captured_training_is_the_plain_one(tmp_path: Path) -> None:
    """Three epochs with and without the graph."""
    device, histories = torch.device("cuda"), []
    for name, asked in (("graph", True), ("plain", False)):
        (tmp_path / name).mkdir()
        heard = Heard()
        work = small_fit(tmp_path / name, device=device, cuda_graph=asked, precision="fp32", events=heard)
        work.batches.device = device
        work.batches.split = work.batches.split.to(device)
        work.measure = lambda model: evaluate(model, eval_batches(images(), 16, device))
        histories.append(fit(work))
        assert not [line for line in heard.said if "could not be captured" in line]
    for first, second in zip(*histories, strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], abs=1e-2)


@needs_gpu
def test_on_a_gpu_the_recorder_replays_what_it_captured() -> None:
    device = torch.device("cuda")
    total = torch.zeros(2, device=device)
    graph = StepGraph(
        lambda images, labels: _accumulate(total, images, labels), CudaRecorder(device), lambda line: None
    )
    for number in range(WARM_UP + 4):
        graph(torch.full((3,), float(number), device=device), torch.full((3,), number, device=device))
    assert graph.replay is not None
    assert total.tolist() == [3.0 * sum(range(WARM_UP + 4))] * 2


def _accumulate(total: Tensor, images: Tensor, labels: Tensor) -> None:
    total.add_(torch.stack([images.sum(), labels.sum().float()]))
