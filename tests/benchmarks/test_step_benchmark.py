"""The yardstick computes what the package computes, and the benchmark works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.models import build

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from measuring import maps_of  # noqa: E402  # beside the package, not in it
from textbook import NaiveSpikingResNet  # noqa: E402  # as above

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["spiking-resnet8", "spiking-resnet18"])
def test_naive_equals_the_package(name: str) -> None:
    architecture = build_description(name, 5, width=4, timesteps=3, neuron=Neuron())
    ours = build(architecture, seed=0).double()
    ours.set_normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    naive = NaiveSpikingResNet(architecture).double()
    naive.take(ours.state_dict())
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2])
    logits = [model(images) for model in (ours, naive)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-9, atol=1e-9)
    for each in logits:
        F.cross_entropy(each.mean(0), labels).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    theirs = {name.replace(".function", ""): p.grad for name, p in naive.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name], rtol=1e-7, atol=1e-9, msg=name)
    running = {name: value for name, value in naive.state_dict().items() if "running" in name}
    for name, value in running.items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-9, msg=name)


def test_maps_are_those_of_the_network() -> None:
    architecture = build_description("resnet18", 10, width=4, stem="7x7")
    model = build(architecture, seed=0)
    seen: dict[str, int] = {}

    def look(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, inputs[0].shape[-1])

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(look(name))
    model.eval()(torch.rand(1, 3, 50, 50))
    assert {conv.name: size for conv, size in maps_of(architecture, 50)} == seen


def test_the_benchmark_runs_in_a_tiny_form() -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "step.py"),
        "--tiny",
        "--json",
        "--rounds",
        "1",
        "--threads",
        "1",
    ]
    for case in ("lif", "spiking-resnet20-b128", "distill", "data", "eval"):
        command += ["--case", case]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lif"]["naive_over_ours"] > 0
    for case in ("spiking-resnet20-b128", "distill"):
        assert found[case].keys() >= {"naive_over_ours", "roofline_share", "memory_ours_over_naive", "seconds"}
        assert found[case]["seconds"].keys() == {"naive", "loop", "ours"}
    assert found["data"]["pipeline_over_step"] > 0
    assert found["eval"]["eval_over_step"] > 0
