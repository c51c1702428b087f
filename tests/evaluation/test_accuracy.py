"""``evaluate`` against numpy, on a model whose logits are whatever the images say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idsnn_cli.architecture import build_description
from idsnn_cli.errors import DataError, NonFiniteError
from idsnn_cli.evaluation.accuracy import Evaluation, evaluate
from idsnn_cli.models import Model, build


class Scripted(Model):
    """Logits (T, N, K), or (N, K) in an ANN, read off the images' first row: pixel t * K + k of an image."""

    def __init__(self, timesteps: int, classes: int, *, ann: bool = False) -> None:
        name = "resnet8" if ann else "spiking-resnet8"
        spiking: dict[str, Any] = {} if ann else {"timesteps": timesteps}
        super().__init__(build_description(name, classes, width=2, **spiking))
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        steps, classes = self.architecture.timesteps, self.architecture.num_classes
        logits = images[:, 0, 0, : steps * classes].view(-1, steps, classes).transpose(0, 1)
        return logits[0] if self.architecture.kind == "ann" else logits


def batches(logits_TNK: np.ndarray, labels: np.ndarray, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    steps, count, classes = logits_TNK.shape
    images = torch.from_numpy(logits_TNK.transpose(1, 0, 2).reshape(count, 1, 1, steps * classes).copy())
    for at in range(0, count, size):
        yield images[at : at + size], torch.from_numpy(labels[at : at + size])


def by_numpy(logits_TNK: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The same figures by sorting and counting, image by image."""
    steps, count, classes = logits_TNK.shape
    by_step = [
        100 * sum(int(np.argmax(logits_TNK[: t + 1, i].mean(0))) == labels[i] for i in range(count)) / count
        for t in range(steps)
    ]
    mean = logits_TNK.mean(0)
    ranked = [np.argsort(-mean[i], kind="stable") for i in range(count)]
    losses = [np.log(np.exp(mean[i]).sum()) - mean[i, labels[i]] for i in range(count)]
    per_class: list[float | None] = []
    for k in range(classes):
        own = [i for i in range(count) if labels[i] == k]
        per_class.append(100 * sum(ranked[i][0] == k for i in own) / len(own) if own else None)
    return {
        "top1": by_step[-1],
        "top5": 100 * sum(labels[i] in ranked[i][:5] for i in range(count)) / count if classes > 5 else None,
        "loss": float(np.mean(losses)),
        "top1_by_step": by_step,
        "per_class": per_class,
        "images": count,
    }


def drawn(steps: int, count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(steps, count, classes)) * 2, generator.integers(0, classes, count)


def compare(found: Evaluation, wanted: dict[str, Any]) -> None:
    figures = found.to_dict()
    assert figures.pop("images_per_second") > 0
    assert set(figures) == set(wanted)
    wanted = dict(wanted)
    for one, other in zip(figures.pop("per_class"), wanted.pop("per_class"), strict=True):
        assert one is other is None or one == pytest.approx(other)
    for key, value in wanted.items():
        assert figures[key] == (value if value is None else pytest.approx(value, rel=1e-10)), key


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    steps=st.integers(1, 6),
    count=st.integers(1, 30),
    classes=st.integers(1, 12),
    size=st.integers(1, 11),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_spiking_network(steps: int, count: int, classes: int, size: int, seed: int) -> None:
    logits, labels = drawn(steps, count, classes, seed)
    compare(evaluate(Scripted(steps, classes), batches(logits, labels, size)), by_numpy(logits, labels))


def test_an_ann_has_one_step() -> None:
    logits, labels = drawn(1, 25, 7, 3)
    found = evaluate(Scripted(1, 7, ann=True), batches(logits, labels, 10))
    assert len(found.top1_by_step) == 1
    compare(found, by_numpy(logits, labels))


def test_each_step_is_of_the_mean_up_to_it_and_not_of_itself() -> None:
    """One image of class 0: right, then wrong alone but right on the mean, then wrong on the mean too."""
    logits = np.array([[[3.0, 0.0]], [[0.0, 2.0]], [[0.0, 4.0]]])
    found = evaluate(Scripted(3, 2), batches(logits, np.array([0]), 1))
    assert found.top1_by_step == [100.0, 100.0, 0.0]
    assert found.top1 == 0.0


def test_a_class_without_images_has_no_accuracy() -> None:
    logits, _ = drawn(2, 12, 4, 5)
    labels = np.array([0, 1, 3] * 4)
    found = evaluate(Scripted(2, 4), batches(logits, labels, 5))
    assert found.per_class[2] is None
    assert all(value is not None for value in found.per_class[:2] + found.per_class[3:])


@pytest.mark.parametrize("classes", [2, 3, 5, 6])
def test_top5_is_there_where_it_says_something(classes: int) -> None:
    logits, labels = drawn(2, 9, classes, 1)
    found = evaluate(Scripted(2, classes), batches(logits, labels, 4)).top5
    assert (found is None) == (classes <= 5)


@pytest.mark.parametrize("training", [True, False])
def test_it_runs_in_evaluation_mode_without_gradients_and_restores(training: bool) -> None:
    model = Scripted(1, 3).train(training)
    logits, labels = drawn(1, 6, 3, 2)
    evaluate(model, batches(logits, labels, 4))
    assert model.modes == [False, False]
    assert model.training is training

    def failing() -> Iterator[tuple[Tensor, Tensor]]:
        yield from batches(logits, labels, 6)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        evaluate(model, failing())
    assert model.training is training


def test_weights_and_statistics_stay_as_they_were() -> None:
    model = build(build_description("spiking-resnet8", 3, width=2, timesteps=2), seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.rand((5, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    evaluate(model, [(images, torch.tensor([0, 1, 2, 0, 1]))])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_poisson_coding_gives_one_figure_for_a_seed() -> None:
    model = build(build_description("spiking-resnet8", 3, width=2, timesteps=2, coding="poisson"), seed=0)
    images = torch.rand((8, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 3
    data = [(images, labels)]
    first, again, other = (evaluate(model, data, seed=seed) for seed in (4, 4, 5))
    assert first.loss == again.loss
    assert first.loss != other.loss
    in_three = [(images[:3], labels[:3]), (images[3:6], labels[3:6]), (images[6:], labels[6:])]
    assert evaluate(model, in_three, seed=4).loss == pytest.approx(first.loss, rel=1e-6)
    parts = [
        evaluate(model, [(images[part], labels[part])], seed=4, first_image=part.start)
        for part in (slice(0, 5), slice(5, 8))
    ]
    assert (5 * parts[0].loss + 3 * parts[1].loss) / 8 == pytest.approx(first.loss, rel=1e-6)
    in_three = [(images[:3], labels[:3]), (images[3:6], labels[3:6]), (images[6:], labels[6:])]
    assert evaluate(model, in_three, seed=4).loss == pytest.approx(first.loss, rel=1e-6)
    parts = [
        evaluate(model, [(images[part], labels[part])], seed=4, first_image=part.start)
        for part in (slice(0, 5), slice(5, 8))
    ]
    assert (5 * parts[0].loss + 3 * parts[1].loss) / 8 == pytest.approx(first.loss, rel=1e-6)


def test_processes_join_their_parts() -> None:
    """``reduce`` sees one vector of sums; adding another process's gives the figures of all images."""
    logits, labels = drawn(3, 20, 6, 9)
    vectors: list[Tensor] = []

    def note(values: Tensor) -> Tensor:
        vectors.append(values.clone())
        return values

    evaluate(Scripted(3, 6), batches(logits[:, :7], labels[:7], 4), reduce=note)
    assert vectors[0].dtype == torch.float64
    joined = evaluate(Scripted(3, 6), batches(logits[:, 7:], labels[7:], 4), reduce=lambda values: values + vectors[0])
    compare(joined, by_numpy(logits, labels))
    # A process whose part is empty still takes part.
    whole = evaluate(Scripted(3, 6), [], reduce=lambda values: values + vectors[0])
    compare(whole, by_numpy(logits[:, :7], labels[:7]))


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        evaluate(Scripted(1, 3), [])
    assert caught.value.fix


def test_logits_that_are_not_finite_are_no_accuracy() -> None:
    model = build(build_description("resnet8", 3, width=4), seed=0)
    with torch.no_grad():
        model.head.weight.fill_(3e38)
        model.head.bias.fill_(3e38)
    images = torch.rand((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    with pytest.raises(NonFiniteError, match="logits of the ResNet-8"):
        evaluate(model, [(images, torch.zeros(4, dtype=torch.long))])
