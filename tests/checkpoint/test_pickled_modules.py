"""Whole pickled modules: their tensors are read as a state dict has them, and nothing in them is run."""

from __future__ import annotations

import builtins
import enum
import functools
import operator
import os
import pickletools
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import CheckpointError

LEGACY = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
RUNS: list[str] = []


class Kind(enum.Enum):
    PLAIN = 1


class Told(nn.Module):
    """A module with much that others pickle beside tensors; to unpickle it truly leaves a trace in ``RUNS``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.same = self.bn
        self.empty = None
        self.register_module("nothing", None)
        self.register_buffer("passing", torch.ones(3), persistent=False)
        self.register_buffer("kept", torch.ones(2))
        self.register_parameter("none", None)
        self.kind, self.path = Kind.PLAIN, Path("a")
        self.make = functools.partial(nn.BatchNorm2d, eps=1e-3)
        self.activation = nn.functional.relu
        self.names = {"a", "b"}
        self.list = nn.ModuleList([nn.Linear(2, 2)])
        self.loose = torch.ones(7)

    def __setstate__(self, state: dict[str, Any]) -> None:
        RUNS.append("setstate")
        self.__dict__.update(state)


class Calls:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def save(path: Path, content: Any, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    with open_checkpoint(path) as file:
        return {key: file.get(key) for key in file.shapes()}, file.notes


def holder(extra: Any) -> nn.Module:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    module.extra = extra
    return module


@LEGACY
def test_the_tensors_are_those_of_the_state_dict(tmp_path: Path, zipped: bool) -> None:
    torch.manual_seed(0)
    module = Told()
    found, notes = read(save(tmp_path / "net.pth", module, zipped))
    wanted = module.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert RUNS == []
    (note,) = notes
    assert "whole pickled module" in note
    assert "test_pickled_modules.Told" in note
    assert "not run" in note
    torch.load(tmp_path / "net.pth", weights_only=False)
    assert RUNS, "unpickling leaves no trace, so the test shows nothing"
    RUNS.clear()


def test_a_module_inside_a_dictionary(tmp_path: Path) -> None:
    found, notes = read(save(tmp_path / "net.pth", {"epoch": 3, "model": nn.DataParallel(nn.Linear(2, 3))}))
    assert set(found) == {"model.module.weight", "model.module.bias"}
    assert notes


def test_a_state_dict_has_no_note(tmp_path: Path) -> None:
    assert read(save(tmp_path / "net.pth", nn.Linear(2, 3).state_dict()))[1] == ()


@LEGACY
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.mkdir, ("MARKER",)),
        (os.system, ("mkdir MARKER",)),
        (eval, ("__import__('os').mkdir('MARKER')",)),
        (exec, ("import os; os.mkdir('MARKER')",)),
        (subprocess.check_call, (["mkdir", "MARKER"],)),
        (builtins.__import__, ("antigravity",)),
        (getattr, (os, "mkdir")),
        (operator.methodcaller, ("mkdir", "MARKER")),
        (functools.reduce, (max, [1, 2])),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_module_beside_what_would_run_is_refused_by_name(
    function: Callable[..., Any], arguments: tuple[Any, ...], tmp_path: Path, zipped: bool
) -> None:
    marker = tmp_path / "marker"
    filled = [each.replace("MARKER", str(marker)) if isinstance(each, str) else each for each in arguments]
    if function is getattr:
        filled = [Calls(builtins.__import__, "os"), "mkdir"]
    path = save(tmp_path / "net.pth", holder(Calls(function, *filled)), zipped)
    with pytest.raises(CheckpointError, match=r"wants to import '[\w.]+', which could run code") as caught:
        open_checkpoint(path)
    assert "builtins" in caught.value.message or function.__name__ in caught.value.message
    assert not marker.exists()


@LEGACY
def test_classes_of_others_are_not_run_when_called(tmp_path: Path, zipped: bool) -> None:
    """What is called and not Python's own is inert: a class that is here is not even looked up."""
    path = save(tmp_path / "net.pth", holder(Calls(trace, "called")), zipped)
    found, _ = read(path)
    assert set(found) == {"0.weight", "0.bias"}
    assert RUNS == []


def trace(word: str) -> int:
    RUNS.append(word)
    return 3


def test_a_module_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "net.pth", Told())
    monkeypatch.delitem(globals(), "Told")
    assert "conv.weight" in read(path)[0]
    assert "antigravity" not in sys.modules


def test_stack_globals_and_later_protocols_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(holder(Calls(os.system, "true")), path, pickle_protocol=4)
    with zipfile.ZipFile(path) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    assert "STACK_GLOBAL" in {opcode.name for opcode, _, _ in pickletools.genops(content)}
    with pytest.raises(CheckpointError, match="protocol 4"):
        open_checkpoint(path)


def rewritten(path: Path, old: bytes, new: bytes) -> Path:
    """The file of torch.save with other bytes in its pickle."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(old, new, 1) if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (b"cposix\nsystem\n", "wants to import 'posix.system'"),
        (b"c" + b"a" * 60_000 + b"\nReLU\n", "a name of 60,005 letters"),
        (
            b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x04\x85R0c__torch__\nReLU\n",
            "asks for 17,179,869,184 bytes",
        ),
        (b"".join(b"ca\nb%d\n0" % i for i in range(400)) + b"ca\nReLU\n", "whole pickled model, which needs"),
        (b"cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R0ca\nReLU\n", "wants to import 'builtins.eval'"),
    ],
    ids=["posix", "long name", "huge size", "many names", "eval"],
)
def test_changed_pickles(new: bytes, words: str, tmp_path: Path) -> None:
    path = save(tmp_path / "net.pth", holder(None))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(rewritten(path, b"ctorch.nn.modules.activation\nReLU\n", new))
    assert words in caught.value.message
    assert len(caught.value.message) < 600


def test_a_module_that_holds_itself(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    module._modules["itself"] = module
    with pytest.raises(CheckpointError, match="nested without end"):
        open_checkpoint(save(tmp_path / "net.pth", module))


@pytest.mark.parametrize("state", [3, {}, {"_modules": 3, "_parameters": [1], "_buffers": None}], ids=str)
def test_states_that_are_no_modules(state: Any, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    path = save(tmp_path / "net.pth", {"odd": Stated(state), "good": module})
    assert set(read(path)[0]) == {"good.0.weight", "good.0.bias"}


class Stated:
    def __init__(self, state: Any) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state
