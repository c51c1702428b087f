"""The benchmark of the image pipeline works, and both sides read every image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_measures_both_pipelines_on_made_up_images() -> None:
    words = ("--images", "20", "--size", "32", "--short", "40", "--rounds", "1")
    command = [sys.executable, str(ROOT / "benchmarks" / "images.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["train"]["images"], found["test"]["images"]) == (20, 10)
    for part in ("train", "test"):
        rates = found[part]["images_per_second_and_core"]
        assert found[part]["ratio"] == pytest.approx(rates["ours"] / rates["torchvision"], rel=0.01)
