"""Balanced accuracy, macro F1 and AUC against loops over classes and pairs of images; and without the library."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invoking import invoke

from idsnn_cli.errors import MissingPackageError
from idsnn_cli.evaluation import measure
from idsnn_cli.evaluation.measure import available, require_packages

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from idsnn_cli.evaluation.measures.class_balance import Answers

Capture = pytest.CaptureFixture[str]


def by_hand(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    answers = logits.argmax(1)
    recalls, f1 = [], []
    for k in sorted({*labels.tolist(), *answers.tolist()}):
        both = int(((labels == k) & (answers == k)).sum())
        true, chosen = int((labels == k).sum()), int((answers == k).sum())
        if true:
            recalls.append(both / true)
        f1.append(2 * both / (true + chosen))
    auc = None
    if logits.shape[1] == 2 and 0 < labels.sum() < len(labels):
        ahead = logits[:, 1] - logits[:, 0]
        pairs = [(a > b) + (a == b) / 2 for a in ahead[labels == 1] for b in ahead[labels == 0]]
        auc = 100 * float(np.mean(pairs))
    return {"balanced_accuracy": 100 * float(np.mean(recalls)), "macro_f1": 100 * float(np.mean(f1)), "auc": auc}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    count=st.integers(1, 30),
    classes=st.integers(2, 6),
    size=st.integers(1, 9),
    few=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_the_figures_are_those_of_the_definitions(count: int, classes: int, size: int, few: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    running = generator.normal(size=(3, count, classes)).round(1)
    labels = generator.integers(0, 2 if few else classes, count) // (2 if few else 1)
    seen = Answers()
    for at in range(0, count, size):
        seen.see(torch.from_numpy(running[:, at : at + size]), torch.from_numpy(labels[at : at + size]))
    found = seen.result().to_dict()
    counts = np.bincount(labels)
    assert (found.pop("smallest_class"), found.pop("largest_class")) == (counts[counts > 0].min(), counts.max())
    wanted = by_hand(running[-1], labels)
    assert (found["auc"] is None) == (wanted["auc"] is None)
    assert {k: v for k, v in found.items() if v is not None} == pytest.approx(
        {k: v for k, v in wanted.items() if v is not None}, abs=1e-9
    )


def test_one_class_chosen_always_is_half_of_two() -> None:
    seen = Answers()
    seen.see(torch.tensor([[[1.0, 0.0]] * 10]), torch.tensor([0] * 9 + [1]))
    found = seen.result()
    assert (found.balanced_accuracy, found.auc) == (50.0, 50.0)
    assert found.macro_f1 == pytest.approx(100 * (18 / 19) / 2)
    assert (found.smallest_class, found.largest_class) == (1, 9)


def without(name: str) -> Any:
    there = importlib.util.find_spec
    return lambda module: None if module == name else there(module)


def test_without_the_library_the_measure_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "class-balance" in available()
    monkeypatch.setattr(measure, "find_spec", without("sklearn"))
    require_packages(["confusion", "latency"])
    with pytest.raises(MissingPackageError) as missing:
        require_packages(["confusion", "class-balance"])
    assert missing.value.fix == "Install it with: pip install 'idsnn-cli[metrics]'"
    assert "class-balance" not in available()


def test_without_the_library_the_command_says_so_before_it_trains(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "find_spec", without("sklearn"))
    words: list[str | Path] = ["run", "quickstart", "eval.measure=[class-balance]", "--run-dir", tmp_path / "run"]
    for more in (["--dry-run"], []):
        refused = invoke(capsys, *words, *more, "--json")
        assert refused.code == 1
        assert refused.document["error"]["type"] == "MissingPackageError"
        assert "idsnn-cli[metrics]" in refused.document["error"]["fix"]
    assert not (tmp_path / "run").exists()
