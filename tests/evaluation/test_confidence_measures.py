"""Calibration, early exit and confusion against loops over single images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.errors import DataError
from idsnn_cli.evaluation.measures.calibration import Calibration
from idsnn_cli.evaluation.measures.confusion import Confusion
from idsnn_cli.evaluation.measures.early_exit import EarlyExit
from idsnn_cli.evaluation.observation import Observer
from idsnn_cli.results import plain

shapes = given(
    steps=st.integers(1, 5),
    count=st.integers(1, 25),
    classes=st.integers(2, 7),
    size=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
looped = settings(deadline=None, derandomize=True, max_examples=30)


def drawn(steps: int, count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean logits after each step, and labels."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(steps, count, classes)) * 3, generator.integers(0, classes, count)


def show(observer: Observer, running: np.ndarray, labels: np.ndarray, size: int) -> None:
    for at in range(0, len(labels), size):
        part = slice(at, at + size)
        observer.see(torch.from_numpy(running[:, part].copy()), torch.from_numpy(labels[part]))


def confidence(logits: np.ndarray) -> float:
    return float(np.exp(logits.max()) / np.exp(logits).sum())


@looped
@shapes
def test_calibration(steps: int, count: int, classes: int, size: int, seed: int) -> None:
    running, labels = drawn(steps, count, classes, seed)
    found = Calibration()
    show(found, running, labels, size)
    document = found.result().to_dict()
    for t in range(steps):
        error = 0.0
        for b in range(15):
            own = [i for i in range(count) if b / 15 < confidence(running[t, i]) <= (b + 1) / 15]
            if own:
                right = np.mean([running[t, i].argmax() == labels[i] for i in own])
                error += len(own) / count * abs(right - np.mean([confidence(running[t, i]) for i in own]))
        assert document["ece_by_step"][t] == pytest.approx(100 * error)
    assert document["ece"] == document["ece_by_step"][-1]
    assert sum(each["images"] for each in document["reliability"]) == count
    filled = [each for each in document["reliability"] if each["images"]]
    assert all(100 * each["from"] < each["confidence"] <= 100 * each["to"] + 1e-9 for each in filled)
    by_bins = sum(each["images"] / count * abs(each["accuracy"] - each["confidence"]) for each in filled)
    assert by_bins == pytest.approx(document["ece"])


def test_calibration_by_hand() -> None:
    """Four answers of confidence 0.75, three of them right: perfect. With one right they are 50 points off."""
    logits = np.tile(np.log([0.75, 0.25]), (1, 4, 1))
    for right, error in ((3, 0.0), (1, 50.0)):
        found = Calibration()
        show(found, logits, np.array([0] * right + [1] * (4 - right)), 3)
        assert found.errors() == pytest.approx([error])


@looped
@shapes
def test_early_exit(steps: int, count: int, classes: int, size: int, seed: int) -> None:
    running, labels = drawn(steps, count, classes, seed)
    found = EarlyExit((0.4, 0.7, 0.95))
    show(found, running, labels, size)
    for row in plain(found.result()):
        exits: list[int] = []
        for i in range(count):
            ready = [t for t in range(steps - 1) if confidence(running[t, i]) >= row["threshold"]]
            exits.append(min([*ready, steps - 1]))
        right = [running[t, i].argmax() == labels[i] for i, t in enumerate(exits)]
        assert row["top1"] == pytest.approx(100 * np.mean(right))
        assert row["mean_steps"] == pytest.approx(1 + np.mean(exits))
        assert row["exits"] == [exits.count(t) for t in range(steps)]


def test_a_higher_threshold_never_exits_earlier() -> None:
    running, labels = drawn(6, 40, 5, 3)
    found = EarlyExit()
    show(found, running, labels, 40)
    steps = [row["mean_steps"] for row in plain(found.result())]
    assert steps == sorted(steps)
    assert steps[0] < steps[-1]


def test_early_exit_of_no_image_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        EarlyExit().result()
    assert caught.value.fix


@looped
@shapes
def test_confusion(steps: int, count: int, classes: int, size: int, seed: int) -> None:
    running, labels = drawn(steps, count, classes, seed)
    found = Confusion(classes)
    show(found, running, labels, size)
    expected = [[0] * classes for _ in range(classes)]
    for i in range(count):
        expected[labels[i]][int(running[-1, i].argmax())] += 1
    assert plain(found.result()) == expected


@pytest.mark.parametrize("edge", [1 / 15, 10 / 15, 1.0])
def test_a_bins_upper_edge_belongs_to_it(edge: float) -> None:
    """Probability 1 has a bin, too."""
    sure = math.inf if edge == 1.0 else math.log(edge / (1 - edge))
    found = Calibration(bins=15)
    logits = torch.tensor([[[30.0 if sure == math.inf else sure, -30.0 if sure == math.inf else 0.0]]]).double()
    found.see(logits, torch.tensor([0]))
    filled: list[dict[str, Any]] = [each for each in found.result().to_dict()["reliability"] if each["images"]]
    chosen = max(edge, 1 - edge)
    assert len(filled) == 1
    assert filled[0]["from"] - 1e-9 < chosen <= filled[0]["to"] + 1e-9
