"""Two processes learn from features, with amplitudes and TET, as one does on the same global batch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_processes import call

from idsnn_cli.training import load_state

pytestmark = pytest.mark.slow

# Three steps; the last batch has 5 images, 2 for one process and 3 for the other.
RECIPE = """
data: {dataset: digits, subset: 21, test_subset: 20, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 6, stem: 7x7, epochs: 1, batch_size: 8}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 3, amplitude: channel}
distill: {epochs: 1, batch_size: 8, lr: 0.05, loss_on: steps, tet_weight: 0.2, clip_norm: 0.5, features: mse}
runtime: {threads: 1, precision: fp64}
"""


def test_two_processes_learn_from_features_as_one(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    one, two = tmp_path / "one", tmp_path / "two"
    call(sys.executable, "-m", "idsnn_cli", "run", str(recipe), "--run-dir", str(one))
    words = ["distill", str(recipe), "--run-dir", str(two)]
    words += ["--teacher", str(one / "teacher.safetensors"), "--student", str(one / "init.safetensors")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    call(*launcher, "-m", "idsnn_cli", *words)
    first, second = (load_file(folder / "student.safetensors") for folder in (one, two))
    kept, shared = (load_state(folder / "distill" / "state.pt")[1]["losses"] for folder in (one, two))
    assert first.keys() == second.keys()
    assert len(kept) == 3
    for name, value in (first | kept).items():
        torch.testing.assert_close((second | shared)[name], value, rtol=0, atol=1e-9, msg=name)
    start = load_file(one / "init.safetensors")
    assert not torch.equal(first["stages.0.0.amplitude0.weight"], start["stages.0.0.amplitude0.weight"].double())
