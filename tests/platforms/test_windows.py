"""Windows and macOS, of which none is here: what stands in for what they lack, where it is taken away from Linux."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import windows
from house import FILES, TREES

from idsnn_cli import systems
from idsnn_cli.checkpoint import write_bytes
from idsnn_cli.errors import WriteError
from idsnn_cli.recipe.variations import name_settings

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """# A recipe of Grün and Şahin: 日本
data: {dataset: digits, subset: 50, test_subset: 20}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 1, batch_size: 10}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
distill: {epochs: 2, batch_size: 10, baseline: plain}
runtime: {threads: 1, save_every_minutes: 0.0001, device: cpu}
"""
# A default encoding that knows no letter of the recipe, as a Windows code page knows few.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
COMMANDS = (
    "recipes cp quickstart copied.yaml",
    "run own.yaml --seeds 0 --vary distill.temperature=1.,4 --run-dir grid",
    "run own.yaml --run-dir run",
    "teacher own.yaml --run-dir run --force",
    "run own.yaml --run-dir run",
    "eval own.yaml --run-dir run --measure activity --report page",
    "inspect run/student.safetensors --html student.html",
    "report run grid --html runs.html --markdown runs.md -o runs.json",
    "init --from run/teacher.safetensors --arch spiking-resnet8 -o init.safetensors",
    "init --from run/teacher.safetensors --arch spiking-resnet8 -o init.safetensors --force",
    "export run/student.safetensors -o student.pt2",
)


def follow(place: str, folder: Path) -> None:
    """Type all commands in ``folder``."""
    folder.mkdir()
    (folder / "own.yaml").write_text(RECIPE, encoding="utf-8")
    own = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "IDSNN_CPU_BF16": "0", "USERNAME": "x"}
    words = [sys.executable, windows.__file__, place, *COMMANDS]
    done = subprocess.run(words, cwd=folder, env=os.environ | own | ASCII, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


@pytest.mark.slow
def test_every_command_works_there_and_writes_the_same_files(tmp_path: Path) -> None:
    here, there = tmp_path / "linux", tmp_path / "windows"
    follow("here", here)
    follow("there", there)
    found = {
        folder: {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock"}
        for folder in (here, there)
    }
    assert found[here] == found[there]
    assert not [name for name in found[there] if any(windows.FORBIDDEN.search(part) for part in Path(name).parts)]
    same = [
        name for name in found[here] if name.endswith((".safetensors", "mapping.json", "resolved.yaml", "recipe.yaml"))
    ]
    assert len(same) > 15
    assert [name for name in same if (here / name).read_bytes() != (there / name).read_bytes()] == []
    assert [path.name for path in there.rglob("*") if path.suffix in (".tmp", ".part")] == []


def test_what_is_open_is_noticed(tmp_path: Path) -> None:
    """The guard of the test above."""
    path = tmp_path / "a"
    with path.open("wb"):
        assert windows.held(path)
        with pytest.raises(PermissionError):
            windows.guarded(os.replace)(path, tmp_path / "b")
    assert not windows.held(path)
    for name in ("a:b", "con", "NUL.txt", "a.", "b ", "what?"):
        assert windows.FORBIDDEN.search(name)
    assert not windows.FORBIDDEN.search("distill.alpha=0,seed=1")


def test_a_file_that_another_program_holds_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = os.replace

    def held_twice(source: Path, target: Path) -> None:
        asked.append(1)
        if len(asked) < 3:
            raise PermissionError(errno.EACCES, "in use", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", held_twice)
    monkeypatch.setattr(systems, "_PAUSE", 0.0)
    with pytest.raises(WriteError, match="in use"):
        write_bytes(tmp_path / "a", b"1")
    assert len(asked) == 1, "elsewhere a refusal is a refusal"
    asked.clear()
    monkeypatch.setattr(systems, "WINDOWS", True)
    write_bytes(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert len(asked) == 3

    monkeypatch.setattr(systems, "PATIENCE", -1.0)
    monkeypatch.setattr(os, "replace", lambda source, target: windows.refused(target))
    with pytest.raises(WriteError, match="cannot access the file"):
        write_bytes(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("error", "here", "there"),
    [
        (BrokenPipeError(errno.EPIPE, "gone"), True, True),
        (OSError(errno.EINVAL, "invalid argument"), False, True),
        (OSError(errno.EINVAL, "invalid argument", "file"), False, False),
        (OSError(errno.ENOSPC, "full"), False, False),
    ],
)
def test_a_reader_that_left(error: OSError, here: bool, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert systems.reader_left(error) is here
    monkeypatch.setattr(systems, "WINDOWS", True)
    assert systems.reader_left(error) is there


def test_cores_are_counted_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert systems.usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert systems.usable_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert systems.usable_cores() == 1


@pytest.mark.parametrize(
    ("system", "file", "program", "found"),
    [
        ("linux", True, False, True),
        ("linux", False, True, False),
        ("win32", False, True, True),
        ("win32", False, False, False),
    ],
)
def test_a_driver_is_found_by_its_file_or_its_program(
    system: str, file: bool, program: bool, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file:
        (tmp_path / "version").touch()
    monkeypatch.setattr(systems, "NVIDIA_DRIVER", tmp_path / "version")
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("shutil.which", lambda name: name if program else None)
    assert systems.nvidia_driver() is found


class Process:
    """A process as :func:`systems.end` sees it, which saves its state for so many seconds once it was asked to."""

    def __init__(self, saves: float) -> None:
        self.ends, self.killed = time.monotonic() + saves, False

    def poll(self) -> int | None:
        return 0 if self.killed or time.monotonic() >= self.ends else None

    def wait(self, timeout: float | None = None) -> int:
        until = self.ends if timeout is None else min(self.ends, time.monotonic() + timeout)
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("process", timeout or 0)
        return 0

    def terminate(self) -> None:
        self.killed = True


def test_processes_get_time_to_save_where_asking_is_killing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = [Process(0.1), Process(0.2)]
    systems.end(asked)
    assert all(each.killed for each in asked), "elsewhere the request is what they save for"
    monkeypatch.setattr(systems, "WINDOWS", True)
    monkeypatch.setattr(systems, "GRACE", 0.3)
    given: list[Any] = [Process(0.1), Process(60)]
    systems.end(given)
    assert [each.killed for each in given] == [False, True]


def test_a_folders_name_ends_in_no_dot() -> None:
    assert name_settings((("distill.temperature", "1."),)).startswith("distill.temperature=1.-")
    assert name_settings((("distill.temperature", "1.5"),)) == "distill.temperature=1.5"


ONLY_IN_SYSTEMS = {
    *(f"os.{name}" for name in ("replace", "rename", "fsync", "fchmod", "O_DIRECTORY", "sched_getaffinity", "fork")),
    *(f"signal.{name}" for name in ("setitimer", "alarm", "SIGALRM", "SIGKILL", "SIGHUP", "SIGPIPE", "SIGUSR1")),
    *(f"os.{name}" for name in ("getuid", "geteuid", "getpgid", "killpg", "uname", "statvfs", "mkfifo", "symlink")),
}


def test_what_systems_do_otherwise_is_asked_for_in_one_place() -> None:
    found = []
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ONLY_IN_SYSTEMS:
                found.append((module, ast.unparse(node)))
            if isinstance(node, ast.Import) and {each.name for each in node.names} & {
                "fcntl",
                "resource",
                "pwd",
                "select",
            }:
                found.append((module, ast.unparse(node)))
    assert {module for module, _ in found} == {"idsnn_cli.systems"}, found


def test_text_is_read_and_written_in_an_encoding_that_is_named() -> None:
    """That of the system is another one on Windows."""
    calls = [(module, node) for module, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    unnamed = [each for each in calls if _is_text(each[1]) and "encoding" not in {one.arg for one in each[1].keywords}]
    assert [f"{FILES[module].name}:{call.lineno} {ast.unparse(call)}" for module, call in unnamed] == []


def _is_text(call: ast.Call) -> bool:
    """Whether the call is one of ``read_text``, ``write_text`` of a path, or ``open`` for text."""
    name = ast.unparse(call.func).rpartition(".")[2]
    if name in ("read_text", "write_text") and isinstance(call.func, ast.Attribute):
        return True
    modes = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    is_open = ast.unparse(call.func) == "open" or (
        name == "open" and any(set(mode) <= set("rwaxbt+") for mode in modes)
    )
    return is_open and not any("b" in mode and set(mode) <= set("rwaxbt+") for mode in modes)
