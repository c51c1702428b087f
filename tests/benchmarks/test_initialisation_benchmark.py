"""The benchmark of starts: an arm and a control run, go on where they stopped, and end in a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_networks import save_torchvision

from idsnn_cli.architecture import build_description
from idsnn_cli.models import build

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import initialisation  # beside the package, not in it

pytestmark = pytest.mark.slow


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Options for a random ResNet-56 and 40 images of noise."""
    drawn = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 40), ("test", 20)):
        arrays[f"{part}_images"] = drawn.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count, dtype=np.int64) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    save_torchvision(tmp_path / "teacher.pth", build_description("resnet56", 10, shortcut="pad"))
    given = {
        "teacher": tmp_path / "teacher.pth",
        "data-root": tmp_path,
        "images": 20,
        "test-images": 20,
        "seeds": 3,
        "work": tmp_path / "work",
        "output": tmp_path / "runs.jsonl",
    }
    return [word for key, value in given.items() for word in (f"--{key}", str(value))]


def test_arms_run_once_and_are_tabled(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initialisation, "BATCHES", 1)
    for arm in ("control: permuted kernels", "random weights"):
        initialisation.main(
            [*words, "--group", "half as wide" if arm.startswith("random") else "as wide", "--arm", arm]
        )
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [(run["arm"], run["width"], run["seed"]) for run in runs] == [
        ("control: permuted kernels", 16, 3),
        ("random weights", 8, 3),
    ]
    assert all(run["top1"].keys() == {"0", "1", "3"} for run in runs)
    before = (tmp_path / "runs.jsonl").read_bytes()
    capsys.readouterr()
    initialisation.main([*words, "--arm", "random weights", "--group", "half as wide"])
    assert (tmp_path / "runs.jsonl").read_bytes() == before, "a finished run is not done again"
    out = capsys.readouterr().out
    mean = runs[1]["top1"]["3"]
    assert f"| random weights | 1 | {runs[1]['top1']['0']:.1f}" in out
    assert f"{mean:.1f} ({mean:.1f} to {mean:.1f}) |" in out


@pytest.mark.parametrize("control", [initialisation.permuted, initialisation.norms_only, initialisation.kernels_only])
def test_controls_change_what_they_say(control: initialisation.Change) -> None:
    architecture = build_description("spiking-resnet8", 10, width=4, timesteps=2)
    source = {name: value + 3.0 for name, value in build(architecture, seed=1).state_dict().items()}
    random = build(architecture, seed=2).state_dict()
    start = {name: value.clone() for name, value in source.items()}
    control(start, random, torch.Generator().manual_seed(0))
    for name, value in start.items():
        kernel, norm = value.dim() == 4, ".norm" in name
        if kernel and control is initialisation.permuted:
            assert torch.equal(value.flatten().sort().values, source[name].flatten().sort().values)
            assert not torch.equal(value, source[name])
        elif (kernel and control is initialisation.norms_only) or (norm and control is initialisation.kernels_only):
            assert torch.equal(value, random[name])
        else:
            assert torch.equal(value, source[name]), name
