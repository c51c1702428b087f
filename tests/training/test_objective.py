"""The losses against their formulas (eq. 6-8), worked out with numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_fits import images, student
from torch import Tensor, nn

from idsnn_cli.training import Lesson, Objective
from idsnn_cli.training.losses import Channels, Loss, Seen
from idsnn_cli.training.losses.cross_entropy import balanced_weights
from idsnn_cli.training.objective import Learner

Array = NDArray[np.float64]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    result: Array = powers / powers.sum(-1, keepdims=True)
    return result


def expected(
    student: Array, labels: list[int], teacher: Array | None, o: dict[str, Any], weights: Array | None = None
) -> float:
    """Mean over images (and steps) of w CE + alpha tau^2 KL, from the definitions."""
    rows = student if o["loss_on"] == "steps" else student.mean(0, keepdims=True)
    losses = []
    for step in rows:
        for n, label in enumerate(labels):
            p = softmax(step[n])
            k = len(p)
            target = np.full(k, o["label_smoothing"] / k)
            target[label] += 1 - o["label_smoothing"]
            loss = -(target * np.log(p)).sum() * (1 if weights is None else weights[label])
            if teacher is not None:
                q_t, q_s = softmax(teacher[n] / o["temperature"]), softmax(step[n] / o["temperature"])
                loss += o["alpha"] * o["temperature"] ** 2 * (q_t * np.log(q_t / q_s)).sum()
            losses.append(loss)
    return float(np.mean(losses))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    steps=st.integers(1, 5),
    images=st.integers(1, 6),
    classes=st.integers(2, 7),
    alpha=st.floats(0, 2),
    temperature=st.floats(0.5, 8),
    smoothing=st.floats(0, 0.5),
    every_step=st.booleans(),
    taught=st.booleans(),
    weighted=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_loss_is_the_formula(
    steps: int,
    images: int,
    classes: int,
    alpha: float,
    temperature: float,
    smoothing: float,
    every_step: bool,
    taught: bool,
    weighted: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(steps, images, classes)) * 3, rng.normal(size=(images, classes)) * 3
    labels = rng.integers(0, classes, images).tolist()
    given = {"label_smoothing": smoothing, "loss_on": "steps" if every_step else "mean"}
    given |= {"alpha": alpha, "temperature": temperature, "class_weights": "balanced" if weighted else "none"}
    weights = rng.uniform(0, 3, classes) if weighted else None
    objective = replace(Objective.of(given), class_weights=None if weights is None else torch.tensor(weights))
    guide = Lesson(torch.tensor(teacher)) if taught else None
    loss = objective(torch.tensor(student), torch.tensor(labels), guide, images)
    assert float(loss) == pytest.approx(
        expected(student, labels, teacher if taught else None, given, weights), rel=1e-9
    )


def test_balanced_weights_let_every_class_count_alike() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = balanced_weights(labels, 4)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([10 / 24, 10 / 12, 0.0, 10 / 4])
    counts = torch.bincount(labels, minlength=4)
    assert (weights * counts)[counts > 0].tolist() == pytest.approx([2.5] * 3)


def test_shares_of_a_batch_add_up_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    teacher = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (7,), generator=generator)
    objective = Objective.of({"alpha": 0.3, "loss_on": "steps"})
    whole = objective(logits, labels, Lesson(teacher), 7)
    parts = [(0, 3), (3, 7), (7, 7)]
    shares = [objective(logits[:, a:b], labels[a:b], Lesson(teacher[a:b]), 7) for a, b in parts]
    assert float(sum(shares)) == pytest.approx(float(whole), rel=1e-12)
    assert float(shares[2]) == 0


class Double(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images.flatten(1)[:, :3], 3 * images.flatten(1)[:, :3]])


def test_a_spiking_teacher_teaches_its_time_mean_without_a_graph() -> None:
    images = torch.rand(2, 3, 1, 1, requires_grad=True)
    taught = Objective.of({"alpha": 1.0}, teacher=Double()).teach(images)
    assert taught is not None
    assert not taught.logits_NK.requires_grad
    torch.testing.assert_close(taught.logits_NK, 2 * images.detach().flatten(1))
    assert Objective().teach(images) is None


class Watching(Loss):
    """The mean of the maps behind the first stage, through a layer of one number for each class."""

    watches: ClassVar[bool] = True

    watched: float = 1.0

    def takes_part(self) -> bool:
        return True

    def modules(self, channels: Channels, seed: int) -> nn.Module:
        assert (channels.student, channels.teacher, channels.classes) == ((4, 8, 16), (), 4)
        return nn.Linear(channels.student[0], channels.classes)

    def value(self, seen: Seen, modules: Any) -> Tensor:
        found: Tensor = modules(seen.maps[0].mean((2, 3))).sum()
        return found


def test_a_term_may_watch_the_students_own_maps_and_train_a_layer_without_a_teacher() -> None:
    model, split = student(), images(6)
    pictures = split.images.float() / 255
    objective = Objective(terms=(Watching(),))
    assert (objective.sees_maps, objective.reads_maps, objective.teach(pictures)) == (True, False, None)
    learner = Learner(model, objective, seed=0).eval()
    _, loss = learner(pictures, split.labels, None, 6)
    layer = learner.losses["test-objective"]
    assert isinstance(layer, nn.Linear)
    _, maps = model.with_features(pictures)
    expected_sum = (maps[0].mean((2, 3)) @ layer.weight.T + layer.bias).sum()
    assert loss.item() == pytest.approx(expected_sum.item() / 6, rel=1e-5)
    loss.backward()
    assert layer.weight.grad is not None
    # The stem learns from it, and what stands behind the first stage does not.
    assert model.get_parameter("stem.conv.weight").grad is not None
    assert model.get_parameter("stages.1.0.conv0.weight").grad is None
