"""Runs that are killed, stopped or shared end with the bytes of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import write_recipe

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

RECIPE = """
data: {dataset: digits, subset: 50, test_subset: 20, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 2, batch_size: 10, lr: 0.05}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
init: {reestimate: 2}
pretrain: {epochs: 1, batch_size: 10}
distill: {epochs: 2, batch_size: 10, lr: 0.05, baseline: plain}
runtime: {threads: 1, save_every_minutes: 0.0001}
"""


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_dying(where: str, count: int, *words: str | Path) -> int:
    """``idsnn WORDS`` killed at the ``count``-th ``where``; its exit code, -9 if it was killed."""
    command = [sys.executable, str(HERE / "killing.py"), where, str(count), *map(str, words)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def results(run_dir: Path) -> dict[str, bytes]:
    """The files that do not depend on the machine's speed, and the metrics without their times."""
    found = {path.name: path.read_bytes() for path in run_dir.glob("*.safetensors")}
    found["mapping.json"] = (run_dir / "mapping.json").read_bytes()
    for metrics in sorted(run_dir.glob("*/metrics.jsonl")):
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        untimed = [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]
        found[metrics.parent.name] = json.dumps(untimed).encode()
    return found


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), RECIPE)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run_dir = tmp_path_factory.mktemp("undisturbed")
    assert run_dying("never", 0, "run", recipe, "--run-dir", run_dir) == 0
    found = results(run_dir)
    names = {"teacher", "pretrain", "init", "student", "baseline"}
    assert names <= {name.removesuffix(".safetensors") for name in found}
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(
    recipe: Path, undisturbed: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    # A whole run makes about 40 batches, 60 renames and twice as many syncs; each kill falls somewhere else.
    rng = random.Random(seed)
    plan = [("batch", rng.randint(1, 12)), ("sync", rng.randint(1, 60)), ("rename", rng.randint(1, 30))]
    plan += [("write", rng.randint(1, 8)), ("sync", rng.randint(1, 20))]
    rng.shuffle(plan)
    killed = 0
    for where, count in plan:
        killed += run_dying(where, count, "run", recipe, "--run-dir", tmp_path) != 0
    assert killed >= 3
    assert run_dying("never", 0, "run", recipe, "--run-dir", tmp_path) == 0
    assert results(tmp_path) == undisturbed


def test_a_run_killed_at_a_random_time_ends_with_the_same_bytes(
    recipe: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    rng = random.Random(7)
    command = [sys.executable, "-m", "idsnn_cli", "run", str(recipe), "--run-dir", str(tmp_path)]
    for _ in range(3):
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            time.sleep(rng.uniform(1.5, 4.5))
            child.kill()
    assert run_dying("never", 0, "run", recipe, "--run-dir", tmp_path) == 0
    assert results(tmp_path) == undisturbed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_exits_with_its_code(
    recipe: Path, undisturbed: dict[str, bytes], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    words = ["teacher", str(recipe), "--run-dir", str(tmp_path), "teacher.epochs=4000", "teacher.schedule=constant"]
    command = [sys.executable, "-m", "idsnn_cli", *words]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        # The first epoch's line: training is under way.
        while "teacher 1/4000" not in child.stderr.readline():
            assert child.poll() is None
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    assert child.returncode == code
    assert "its state is saved" in said
    assert "Traceback" not in said
    assert not (tmp_path / "teacher.safetensors").exists()
    assert (tmp_path / "teacher" / "state.pt").exists()
    lines = (tmp_path / "teacher" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, len(lines) + 1))
