"""Under torchrun an expected failure is told once, by the main process, and never as a traceback of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import write_recipe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_a_failure_is_told_once(tmp_path: Path) -> None:
    words = ["init", str(write_recipe(tmp_path)), "--run-dir", str(tmp_path / "run"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "idsnn_cli", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "MissingInputError"
    assert done.stderr.count(f"Error: {error['message']}\n") == 1
    assert "idsnn_cli/cli/main.py" not in done.stderr
