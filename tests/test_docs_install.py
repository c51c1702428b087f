"""docs/install.md: the wheel gives a working command outside a checkout, and the Dockerfile copies what builds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
from documents import DOCS, ROOT, table_rows

from idsnn_cli.version import __version__

PAGE = (DOCS / "install.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"]) - {"dev"}


def copied() -> list[str]:
    """What the Dockerfile copies from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()]


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    told = [str(word) for word in words]
    return subprocess.run(told, env=own | environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what the Dockerfile copies, and from nothing else."""
    source = tmp_path_factory.mktemp("src")
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    built = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", built)
    done = run(sys.executable, "-m", "pip", "wheel", *options, source)
    assert done.returncode == 0, done.stderr
    (found,) = built.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_gives_a_command_that_needs_no_checkout(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment of its own, as uv and pipx make one; torch is large, so the libraries are this one's."""
    home = tmp_path / "tool"
    venv.create(home, with_pip=False, symlinks=True)
    python, command = home / "bin" / "python", home / "bin" / "idsnn"
    # Folders that a .pth file names come last, and no .pth file in them is read: not that of a checkout.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    assert done.returncode == 0, done.stderr
    asked = run(python, "-I", "-c", "import idsnn_cli; print(idsnn_cli.__file__)")
    assert Path(asked.stdout.strip()).is_relative_to(home)
    assert run(command, "--version").stdout == f"idsnn {__version__}\n"
    monkeypatch.chdir(tmp_path)
    # Compiled neurons would be compiled anew, for the package is in another place.
    monkeypatch.setenv("IDSNN_CPU_BF16", "0")
    listed = run(command, "recipes")
    assert "quickstart" in listed.stdout, listed.stderr
    done = run(command, "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    small = ("data.subset=64", "data.test_subset=40", "teacher.epochs=1", "distill.epochs=1", "distill.baseline=none")
    done = run(command, "run", "quickstart", *small, "runtime.threads=1", "--quiet", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "student.safetensors").is_file()
    shown = run(command, "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert shown.stdout.splitlines()[-1] == "complete -o default -F _idsnn_completion idsnn"


def test_the_page_and_the_dockerfile_name_extras_that_there_are() -> None:
    rows = {name for row in table_rows(PAGE) for name in re.findall(r"`(\w+)`", row[0]) if row[0].startswith("`")}
    assert rows & EXTRAS == EXTRAS
    named = re.findall(r"'\.\[([\w,]+)\]'", PAGE) + re.findall(r"^ARG EXTRAS=(\S+)", DOCKERFILE, re.MULTILINE)
    assert {name for each in named for name in each.split(",")} <= EXTRAS | {"dev"}


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert {f"!{name}" for name in copied()} == {line for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied())
    for argument in ("TORCH", "EXTRAS", "PYTHON"):
        assert f"ARG {argument}=" in DOCKERFILE
        assert f"`{argument}`" in PAGE
    oldest = PROJECT["requires-python"].removeprefix(">=")
    (python,) = re.findall(r"^ARG PYTHON=(.+)$", DOCKERFILE, re.MULTILINE)
    assert tuple(map(int, python.split("."))) >= tuple(map(int, oldest.split(".")))


def test_the_dockerfile_is_linted() -> None:
    linter = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if linter is None:
        pytest.skip("hadolint is not installed")
    done = run(linter, ROOT / "Dockerfile")
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""
