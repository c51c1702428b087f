"""The benchmark for GPUs without one: its stages in their tiny form, and how it goes on after a failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu  # noqa: E402  # beside the package, not in it
import gpu_stages  # noqa: E402  # as above
import measuring  # noqa: E402  # as above
from gpu_scene import Scene  # noqa: E402  # as above

pytestmark = pytest.mark.slow


def stage(name: str, folder: Path) -> dict[str, Any]:
    """What a stage in its tiny form tells."""
    scene = Scene("cpu", folder / "found.json", 60, tiny=True)
    benchmark = torch.backends.cudnn.benchmark
    try:
        getattr(gpu_stages, name)(scene)
    finally:
        torch.backends.cudnn.benchmark = benchmark
    found: dict[str, Any] = json.loads(scene.into.read_text())
    assert found == scene.found
    return found


def test_a_step_from_a_graph_and_as_it_is_are_compared(tmp_path: Path) -> None:
    found = stage("equality", tmp_path)
    assert len(found["losses_graph"]) == 6
    # Without a GPU both do the same work.
    assert found["losses_graph"] == found["losses_eager"]
    assert len(set(found["losses_eager"])) > 1
    assert found["largest_loss_gap"] == found["largest_weight_gap"] == 0


def test_steps_are_timed_at_both_batches_and_beside_textbook_code(tmp_path: Path) -> None:
    found = stage("step", tmp_path)
    for name in ("distill_b64", "distill_b64_timed", "distill_b256", "distill_b256_timed"):
        assert found[f"{name}_images_per_second"] == pytest.approx(2000 / found[f"{name}_ms"])
    found = stage("naive", tmp_path)
    assert found["naive_over_ours"] == pytest.approx(found["naive_ms"] / found["ours_ms"])
    assert stage("plain", tmp_path)["plain_ms"] > 0
    assert stage("convolutions", tmp_path)["floor_ms"] > 0


def test_what_takes_the_time_is_listed(tmp_path: Path) -> None:
    found = stage("profile", tmp_path)
    times = [row["microseconds"] for row in found["first"]]
    assert len(times) == 30
    assert times == sorted(times, reverse=True)
    assert any("convolution" in row["name"] for row in found["first"])


def test_the_chains_bandwidth_is_its_account_over_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "copy_bandwidth", lambda device, rounds: 1e9)
    found = stage("chain", tmp_path)
    # float32 here: twice the maps' bytes of bf16, the same quarter of a byte for the state in three passes.
    for name, size in (("chain", 32.75), ("chain_residual", 40.75)):
        neurons = 4 * 2 * 64 * 4 * 4
        assert found[f"{name}_of_copy"] == pytest.approx(size * neurons / (found[f"{name}_us"] * 1e-6) / 1e9)


def test_an_epoch_is_trained(tmp_path: Path) -> None:
    found = stage("fit", tmp_path)
    assert found["images_per_second"] == pytest.approx(20 / found["epoch_seconds"], rel=0.1)
    assert "said" not in found


def run(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    output = tmp_path / "gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--output", str(output), *words]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "IDSNN_FUSED": "nonsense"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, json.loads(output.read_text()), done.stdout


def test_stages_run_in_processes_of_their_own(tmp_path: Path) -> None:
    code, results, said = run(
        tmp_path, "--tiny", "--device", "cpu", "--only", "versions", "--only", "tests", "--only", "chain"
    )
    assert code == 0
    assert [results[name]["status"] for name in ("versions", "tests", "chain")] == ["done", "done", "skipped"]
    assert results["versions"]["found"]["torch"] == torch.__version__
    assert results["versions"]["found"]["lacking"] == []
    assert results["tests"]["found"]["failed"] == []
    assert results["tests"]["found"]["passed"] > 20
    assert results["chain"]["tail"] == "needs CUDA"
    assert "needs CUDA" in said


def test_it_goes_on_after_a_failure_and_keeps_what_was_found(tmp_path: Path) -> None:
    """There is no GPU; and a second is too little for a stage, nothing for the next."""
    code, results, _ = run(tmp_path, "--only", "versions", "--only", "fit")
    assert code == 1
    for name in ("versions", "fit"):
        assert results[name]["status"] == "failed"
        assert "finds no usable CUDA GPU" in results[name]["tail"]
    words = ("--tiny", "--device", "cpu", "--budget", "1.5", "--only", "fit", "--only", "plain")
    code, results, _ = run(tmp_path, *words)
    assert code == 1
    assert results["fit"]["status"] == "timed out"
    assert results["fit"]["seconds"] < 30
    assert results["plain"]["status"] == "no time left"


def test_the_stages_are_those_that_there_are() -> None:
    assert [stage.name for stage in gpu.STAGES] == [each.__name__ for each in gpu_stages.all_stages()]
    assert gpu.BUDGET < 8 * 60
