"""The smoke recipe runs on CIFAR-10 where IDSNN_DATA names a folder with it, and on a small npz elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from invoking import invoke
from tiny_runs import STEPS, contents, history

from idsnn_cli.recipe import load_recipe

Capture = pytest.CaptureFixture[str]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_npz(folder: Path) -> None:
    """300 and 150 images of noise around a colour for each class."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", 300), ("test", 150)):
        labels = np.arange(count) % 10
        colours = rng.integers(40, 216, (10, 1, 1, 3))[labels]
        arrays[f"{part}_images"] = (colours + rng.integers(-40, 40, (count, 32, 32, 3))).astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    np.savez(folder / "cifar10.npz", **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for its own


def named_roots() -> list[str]:
    """The folder that IDSNN_DATA names, if CIFAR-10 is in it."""
    root = os.environ.get("IDSNN_DATA", "")
    return (
        [root] if root and any((Path(root) / name).exists() for name in ("cifar10.npz", "cifar-10-batches-py")) else []
    )


@pytest.mark.slow
@pytest.mark.parametrize("root", ["generated", *named_roots()])
def test_the_smoke_recipe_runs_every_step(
    capsys: Capture, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if root == "generated":
        write_npz(tmp_path)
        root = str(tmp_path)
    monkeypatch.setenv("IDSNN_DATA", root)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    found = invoke(capsys, "run", "smoke-cifar", "--device", "cpu", "--json")
    assert found.code == 0, found.err
    assert [(step["step"], step["status"]) for step in found.document["steps"]] == [(step, "done") for step in STEPS]
    run_dir = Path("runs/smoke-cifar")
    evaluation = json.loads((run_dir / "eval.json").read_text())
    assert (evaluation["dataset"], evaluation["images"]) == ("cifar10", 100)
    assert tuple(evaluation["classes"]) == CLASSES
    assert [row["timesteps"] for row in evaluation["results"]] == [1, 2]
    # The subset is balanced: every class has its tenth of the test images.
    assert all(value is not None and value % 10 == 0 for value in evaluation["results"][1]["per_class"])
    epochs = load_recipe("smoke-cifar").recipe.distill.epochs
    assert [line["epoch"] for line in history(run_dir, "distill")] == list(range(1, epochs + 1))
    before = contents(run_dir)
    assert invoke(capsys, "run", "smoke-cifar", "--device", "cpu").code == 0
    assert contents(run_dir) == before
    alone = invoke(capsys, "eval", "--checkpoint", run_dir / "student.safetensors", "--device", "cpu", "--json")
    assert alone.document["results"][0]["top1"] == evaluation["results"][1]["top1"]


def test_without_the_data_the_way_to_get_it_is_named(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDSNN_DATA", str(tmp_path / "nowhere"))
    found = invoke(capsys, "run", "smoke-cifar", "--json")
    assert found.code == 1
    assert found.document["error"]["type"] == "DataError"
    assert "data.download=true" in found.document["error"]["fix"]
    assert not (tmp_path / "nowhere").exists()
