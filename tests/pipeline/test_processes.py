"""Two processes under torchrun train as one does on the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

# Five steps; the last batch has 5 images, 2 for one process and 3 for the other.
RECIPE = """
data: {dataset: digits, subset: 37, test_subset: 20, augment: {crop: 2, flip: true, autoaugment: cifar10, cutout: 8}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 1, batch_size: 8, lr: 0.05}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 3}
distill: {epochs: 1, batch_size: 8, lr: 0.05, loss_on: steps, clip_norm: 0.5}
runtime: {threads: 1, precision: fp64}
"""


def call(*command: str) -> str:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("step", "coding"), [("distill", "direct"), ("run", "poisson")])
def test_two_processes_equal_one(tmp_path: Path, step: str, coding: str) -> None:
    recipe = tmp_path / "tiny.yaml"
    # The whole run trains the student's shape as an ANN, too, in batches that two processes share unevenly.
    pretrain = "pretrain: {epochs: 1, batch_size: 5}\n" if step == "run" else ""
    recipe.write_text(RECIPE.replace("timesteps: 3", f"timesteps: 3, coding: {coding}") + pretrain)
    one, two = tmp_path / "one", tmp_path / "two"
    call(sys.executable, "-m", "idsnn_cli", "run", str(recipe), "--run-dir", str(one))
    words = [step, str(recipe), "--run-dir", str(two)]
    tracked = find_spec("tensorboard") is not None
    words += ["runtime.track=[tensorboard]"] if tracked else []
    if step == "distill":
        # Only the student's training is shared; it starts from the single process's teacher and first weights.
        words += ["--teacher", str(one / "teacher.safetensors"), "--student", str(one / "init.safetensors")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = call(*launcher, "-m", "idsnn_cli", *words)
    # Only one of the two prints.
    assert said.count(str(two / "student.safetensors")) == 1
    files = [path for path in two.glob("tensorboard/distill/*/*") if path.is_file()]
    assert len(files) == int(tracked)
    first, second = load_file(one / "student.safetensors"), load_file(two / "student.safetensors")
    start = load_file(one / "init.safetensors")
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype in (torch.float64, torch.int64)
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-9, msg=name)
    assert any(not torch.equal(first[name], start[name].to(first[name].dtype)) for name in first)


def test_two_processes_in_bf16_repeat_their_bytes_and_follow_one(tmp_path: Path) -> None:
    """In bf16 the shares of a batch round otherwise than the whole, and a spike more or less moves all layers behind:
    one step's gradients are alike where it matters most, at the linear layer."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.replace("precision: fp64", "precision: bf16").replace("batch_size: 8", "batch_size: 37"))
    one = tmp_path / "one"
    call(sys.executable, "-m", "idsnn_cli", "run", str(recipe), "--run-dir", str(one))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    files = ["--teacher", str(one / "teacher.safetensors"), "--student", str(one / "init.safetensors")]
    for name in ("two", "again"):
        call(*launcher, "-m", "idsnn_cli", "distill", str(recipe), "--run-dir", str(tmp_path / name), *files)
    first, second = (tmp_path / name / "student.safetensors" for name in ("two", "again"))
    assert first.read_bytes() == second.read_bytes()
    alone, shared, start = (load_file(path) for path in (one / "student.safetensors", first, one / "init.safetensors"))
    mine, other = ((each["head.weight"] - start["head.weight"]).flatten() for each in (alone, shared))
    assert mine.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(mine, other, dim=0) > 0.9
    assert not torch.equal(alone["stem.conv.weight"], shared["stem.conv.weight"])
