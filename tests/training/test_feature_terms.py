"""The feature terms of KDSNN and LaSNN and the loss of TET against their formulas, in plain loops and numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_objective import Array, softmax
from torch import nn

from idsnn_cli.training import Lesson, Objective
from idsnn_cli.training.losses.attention import attention_distance
from idsnn_cli.training.losses.mse import feature_mse


def maps_of(rng: np.random.Generator, images: int, channels: int) -> Array:
    """Rates of two time steps, of which one image in three is silent."""
    found: Array = rng.integers(0, 3, (images, channels, 2, 3)) / 2
    found[::3] = 0
    return found


def mse_by_hand(pairs: list[tuple[Array, Array]]) -> float:
    total = 0.0
    for ours, theirs in pairs:
        for n in range(len(ours)):
            squares = [(a - b) ** 2 for a, b in zip(ours[n].flat, theirs[n].flat, strict=True)]
            total += math.fsum(squares) / len(squares)
    return total


def direction(maps: Array) -> list[float]:
    """Q / |Q| of one image (C, H, W); zeros of a silent one."""
    channels, height, width = maps.shape
    q = [math.fsum(maps[c, y, x] ** 2 for c in range(channels)) for y in range(height) for x in range(width)]
    norm = math.sqrt(math.fsum(value**2 for value in q))
    return [value / norm if norm > 0 else 0.0 for value in q]


def attention_by_hand(pairs: list[tuple[Array, Array]]) -> float:
    total = 0.0
    for ours, theirs in pairs:
        for n in range(len(ours)):
            gaps = [a - b for a, b in zip(direction(ours[n]), direction(theirs[n]), strict=True)]
            total += math.sqrt(math.fsum(gap**2 for gap in gaps))
    return total


@settings(deadline=None, derandomize=True, max_examples=30)
@given(images=st.integers(0, 5), stages=st.integers(1, 3), seed=st.integers(0, 2**20))
def test_the_feature_terms_are_their_formulas(images: int, stages: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alike = [(maps_of(rng, images, 3), rng.normal(size=(images, 3, 2, 3))) for _ in range(stages)]
    found = feature_mse((torch.tensor(a), torch.tensor(b)) for a, b in alike)
    assert float(found) == pytest.approx(mse_by_hand(alike), rel=1e-12, abs=1e-15)
    # Channels are added up, so that they may differ in number.
    unlike = [(maps_of(rng, images, 3), np.maximum(rng.normal(size=(images, 5, 2, 3)), 0)) for _ in range(stages)]
    found = attention_distance((torch.tensor(a), torch.tensor(b)) for a, b in unlike)
    assert float(found) == pytest.approx(attention_by_hand(unlike), rel=1e-12, abs=1e-15)


def test_a_silent_map_is_at_a_distance_of_one_and_sends_no_gradient() -> None:
    ours = torch.zeros(3, 2, 2, 2, dtype=torch.float64)
    ours[1, 0, 0, 0] = 0.5
    ours[2] = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = torch.ones(3, 4, 2, 2, dtype=torch.float64)
    theirs[2] = ours[2].repeat(2, 1, 1)  # the same attention: a distance of zero
    ours.requires_grad_()
    terms = [attention_distance([(ours[n : n + 1], theirs[n : n + 1])]) for n in range(3)]
    # Q_s is the first axis, Q_t the diagonal of four: |(1/2, -1/2, -1/2, -1/2)| = 1.
    assert [float(term.detach()) for term in terms] == pytest.approx([1, 1, 0], abs=1e-12)
    attention_distance([(ours, theirs)]).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert ours.grad is not None
    assert torch.isfinite(ours.grad).all()
    assert not ours.grad[0].any()
    assert not attention_distance([(ours.detach() * 0, theirs * 0)]).any()


def test_half_precision_is_widened_before_it_is_squared() -> None:
    maps = torch.full((1, 4, 8, 8), 300.0, dtype=torch.float16)
    # 300^2 is beyond float16.
    assert float(feature_mse([(maps, maps * 0)])) == pytest.approx(300.0**2)
    assert float(attention_distance([(maps, maps * 0)])) == pytest.approx(1)


def tet_by_hand(student: Array, labels: list[int], teacher: Array | None, o: dict[str, Any]) -> float:
    """Mean over images of (1 - lambda) mean_t CE + lambda mean_t MSE + alpha tau^2 mean_t KL."""
    steps, images, classes = student.shape
    total = 0.0
    for n in range(images):
        for t in range(steps):
            p = softmax(student[t, n])
            spread = o["label_smoothing"]
            target = [(1 - spread) * (k == labels[n]) + spread / classes for k in range(classes)]
            ce = -math.fsum(weight * math.log(p[k]) for k, weight in enumerate(target))
            mse = math.fsum((student[t, n, k] - o["tet_mean"]) ** 2 for k in range(classes)) / classes
            loss = (1 - o["tet_weight"]) * ce + o["tet_weight"] * mse
            if teacher is not None:
                q_t, q_s = softmax(teacher[n] / o["temperature"]), softmax(student[t, n] / o["temperature"])
                loss += o["alpha"] * o["temperature"] ** 2 * float((q_t * np.log(q_t / q_s)).sum())
            total += loss
    return float(total / (images * steps))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    steps=st.integers(1, 4),
    images=st.integers(1, 4),
    weight=st.floats(0.01, 0.99),
    mean=st.floats(-2, 2),
    smoothing=st.floats(0, 0.5),
    taught=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_tet_is_its_formula(
    steps: int, images: int, weight: float, mean: float, smoothing: float, taught: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(steps, images, 5)) * 3, rng.normal(size=(images, 5)) * 3
    labels = rng.integers(0, 5, images).tolist()
    given = {"label_smoothing": smoothing, "loss_on": "steps", "alpha": 0.7, "temperature": 3.0}
    given |= {"tet_weight": weight, "tet_mean": mean}
    objective = Objective.of(given)
    lesson = Lesson(torch.tensor(teacher)) if taught else None
    loss = objective(torch.tensor(student), torch.tensor(labels), lesson, images)
    assert float(loss) == pytest.approx(tet_by_hand(student, labels, teacher if taught else None, given), rel=1e-9)


def test_shares_of_a_batch_add_up_with_every_term() -> None:
    """As the processes' do: of 7 images 3, 4 and none, divided by the global size."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    teacher = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    ours, theirs = (torch.rand(7, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(0, 5, (7,), generator=generator)
    for name, term in {"mse": feature_mse, "attention": attention_distance}.items():
        plain = {"label_smoothing": 0.1, "loss_on": "steps", "alpha": 0.3, "tet_weight": 0.2}
        objective = Objective.of(plain | {"features": name, "feature_weight": 0.5})
        same: dict[str, nn.Module] = {"mse": nn.ModuleDict({"alignment": nn.ModuleList([nn.Identity()])})}
        whole = objective(logits, labels, Lesson(teacher, (theirs,)), 7, (ours,), same)
        bare = Objective.of(plain)(logits, labels, Lesson(teacher), 7)
        assert float(whole - bare) == pytest.approx(0.5 * float(term([(ours, theirs)])) / 7, rel=1e-9)
        shares = [
            objective(logits[:, a:b], labels[a:b], Lesson(teacher[a:b], (theirs[a:b],)), 7, (ours[a:b],), same)
            for a, b in ((0, 3), (3, 7), (7, 7))
        ]
        assert float(sum(shares)) == pytest.approx(float(whole), rel=1e-12)
        assert float(shares[2]) == 0
