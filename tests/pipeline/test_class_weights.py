"""Classes of uneven size in a run: weights reach the loss of teacher and student, and what one leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from invoking import invoke

from idsnn_cli.checkpoint import load_state

Capture = pytest.CaptureFixture[str]
RECIPE = """
data: {{dataset: npz, path: {images}, normalise: none, augment: {{}}}}
teacher: {{arch: resnet8, width: 4, epochs: 1, batch_size: 8, class_weights: balanced}}
student: {{arch: spiking-resnet8, width: 4, timesteps: 2}}
distill: {{epochs: 1, batch_size: 8, class_weights: balanced}}
eval: {{measure: [class-balance]}}
runtime: {{threads: 1}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two classes, one three times as large as the other."""
    generator = np.random.default_rng(0)
    labels = np.array([0, 0, 0, 1] * 8)
    images = generator.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
    path = tmp_path / "images.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:8], test_labels=labels[:8])
    (tmp_path / "uneven.yaml").write_text(RECIPE.format(images=path))
    return tmp_path / "uneven.yaml"


def teacher(recipe: Path, capsys: Capture, *words: str) -> dict[str, torch.Tensor]:
    folder = recipe.parent / "-".join(["run", *words])
    assert invoke(capsys, "teacher", recipe, "--run-dir", folder, *words).code == 0
    return load_state(folder / "teacher.safetensors")[0]


def test_balanced_weights_change_what_is_learnt(recipe: Path, capsys: Capture) -> None:
    weighed, plain = teacher(recipe, capsys), teacher(recipe, capsys, "teacher.class_weights=none")
    again = teacher(recipe, capsys, "distill.class_weights=none")
    assert all(torch.equal(weighed[key], again[key]) for key in weighed)
    assert not torch.equal(weighed["head.weight"], plain["head.weight"])


def test_a_run_measures_what_counts_every_class_alike(recipe: Path, capsys: Capture) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    folder = recipe.parent / "run"
    done = invoke(capsys, "run", recipe, "--run-dir", folder, "--json")
    assert done.code == 0, done.err
    found = invoke(capsys, "eval", recipe, "--run-dir", folder, "--json").document["steps"][0]["figures"]["results"]
    for network in found:
        balance = network["class_balance"]
        recalls = [share for share in network["per_class"] if share is not None]
        assert balance["balanced_accuracy"] == pytest.approx(sum(recalls) / 2)
        assert (balance["smallest_class"], balance["largest_class"]) == (2, 6)
        assert 0 <= balance["auc"] <= 100
        assert network["top5"] is None
    shown = invoke(capsys, "eval", recipe, "--run-dir", folder)
    assert "balanced accuracy %" in shown.out
    assert "AUC %" in shown.out
    assert "top-5" not in shown.out
