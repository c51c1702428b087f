from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invoking import invoke

from idsnn_cli.doctor import libraries

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.delenv("IDSNN_DATA", raising=False)
    return tmp_path


def without_rich(name: str) -> str | None:
    return None if name == "rich" else "99.0"


def test_each_thing_stands_on_a_line_with_its_state(capsys: Capture, tmp_path: Path) -> None:
    found = invoke(capsys, "doctor")
    assert found.code == 0
    states = {line[8:25].strip(): line[:8].strip() for line in found.out.splitlines() if line[:8].strip()}
    for name in (
        "python",
        "idsnn",
        *(each.name for each in libraries.requirements("idsnn-cli")),
        "torchvision fits",
        "cpu",
        "digits",
        "runs",
    ):
        assert states[name] == "ok"
    assert states["cifar10"] == "warn"
    assert "idsnn run cifar10 data.download=true" in found.out
    # A path or a command is never broken, so that it can be copied.
    assert [line for line in found.out.splitlines() if len(line) > 80 and str(tmp_path) not in line] == []
    assert "idsnn run quickstart" in found.err
    assert invoke(capsys, "doctor", "--quiet").err == ""


def test_json_has_its_documented_keys(capsys: Capture) -> None:
    document = invoke(capsys, "doctor", "--json").document
    assert set(document) == {"command", "ready", "checks", "devices"}
    assert document["ready"] is True
    for check in document["checks"]:
        assert set(check) == {"group", "name", "status", "found", "fix"}
        assert check["status"] in ("ok", "warn", "missing")
    assert {check["group"] for check in document["checks"]} == {"versions", "devices", "data", "disk"}
    for device in document["devices"]:
        assert set(device) == {"name", "model", "threads", "memory_bytes", "free_bytes", "bf16", "kernels"}
    assert document["devices"][0]["threads"] >= 1


@pytest.mark.parametrize("as_json", [False, True])
def test_something_missing_exits_with_1_after_the_whole_report(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setattr(libraries, "installed", without_rich)
    found = invoke(capsys, "doctor", *(["--json"] if as_json else []))
    assert found.code == 1
    if as_json:
        assert found.document["ready"] is False
    else:
        assert "pip install 'rich>=" in found.out
        assert "digits" in found.out


def doctor_with(folder: Path, module: str, source: str) -> tuple[int, dict[str, Any]]:
    """``idsnn doctor --json`` in a process where ``module`` is ``source``."""
    (folder / "broken").mkdir()
    (folder / "broken" / f"{module}.py").write_text(source)
    paths = os.pathsep.join([str(folder / "broken"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "idsnn_cli", "doctor", "--json"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_torch_that_cannot_be_imported_is_found_and_not_suffered(tmp_path: Path) -> None:
    code, document = doctor_with(tmp_path, "torch", "raise OSError('libcudart.so: cannot open shared object file')")
    assert code == 1
    check = next(check for check in document["checks"] if check["name"] == "import torch")
    assert check["status"] == "missing"
    assert "libcudart.so" in check["found"]
    assert check["fix"].startswith("pip install")
    assert document["devices"] == []


@pytest.mark.slow
def test_a_torchvision_that_does_not_fit_is_found_with_its_command(tmp_path: Path) -> None:
    code, document = doctor_with(
        tmp_path, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    assert code == 1
    (check,) = [check for check in document["checks"] if check["status"] == "missing"]
    assert check["name"] == "torchvision fits"
    assert "torchvision::nms" in check["found"]
    assert check["fix"].startswith("pip install")
