"""What a command does is a call from Python: the command makes that call, and both give the same bytes and figures."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from invoking import invoke, save_network
from tiny_runs import Heard, write_recipe

import idsnn_cli
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import MissingInputError
from idsnn_cli.evaluation.document import EvaluationDocument
from idsnn_cli.initializer import standalone
from idsnn_cli.pipeline import calls, first_weights, workspace
from idsnn_cli.pipeline.run import RunDone
from idsnn_cli.pipeline.steps.base import StepsDone
from idsnn_cli.seeding import derive_seed

CALLS = ("convert", "distill", "evaluate", "evaluate_run", "initialize", "load", "save")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, and a run of it up to the student's first weights."""
    folder = tmp_path_factory.mktemp("begun")
    recipe = write_recipe(folder)
    for name in ("teacher", "init"):
        calls.do_alone(name, calls.open_run(recipe, run_dir=folder / "run"), calls.given())
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two copies of it, ``typed`` and ``called``, in the folder that this is."""
    for name in ("typed", "called"):
        shutil.copytree(begun, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def untimed(plain: Any) -> Any:
    """A document without times, and without the folder of the run."""
    if isinstance(plain, dict):
        left_out = ("seconds", "train_seconds", "images_per_second", "run_dir", "file", "outputs", "command")
        return {key: untimed(each) for key, each in plain.items() if key not in left_out}
    return [untimed(each) for each in plain] if isinstance(plain, list) else plain


def test_distil_gives_the_bytes_of_the_command(capsys: Capture, folder: Path) -> None:
    words = ("distill.temperature=2", "--run-dir", "typed/run", "--json")
    typed = invoke(capsys, "distill", "typed/tiny.yaml", *words)
    heard = Heard()
    called = idsnn_cli.distill(
        "called/tiny.yaml", ["distill.temperature=2"], run_dir=folder / "called" / "run", events=heard
    )
    assert typed.code == 0, typed.err
    assert isinstance(called, StepsDone)
    names = [folder / each / "run" / "student.safetensors" for each in ("typed", "called")]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert untimed(typed.document) == untimed(called.to_dict())
    assert heard.epochs == [("distill", 1), ("distill", 2)]
    assert idsnn_cli.distill("called/tiny.yaml", ["distill.temperature=2"], run_dir="called/run").steps[0].status == (
        "unchanged"
    )
    measured = invoke(capsys, "eval", "typed/tiny.yaml", *words[:-1], "--json", "--measure", "activity")
    found = idsnn_cli.evaluate_run(
        Path("called/tiny.yaml"), ["distill.temperature=2"], run_dir="called/run", measures=["activity"]
    )
    assert untimed(measured.document) == untimed(found.to_dict())


def test_evaluate_gives_the_figures_of_the_command(capsys: Capture, folder: Path) -> None:
    words = ("data.subset=80", "data.test_subset=40")
    for file, timesteps in (("typed/run/init.safetensors", 4), ("typed/run/teacher.safetensors", None)):
        told = () if timesteps is None else ("--timesteps", str(timesteps))
        typed = invoke(capsys, "eval", "--checkpoint", file, *words, *told, "--json", "-o", "typed.json")
        called = idsnn_cli.evaluate(file, overrides=words, output="called.json", report="page", timesteps=timesteps)
        assert typed.code == 0, typed.err
        assert isinstance(called, EvaluationDocument)
        assert untimed(typed.document) == untimed(called.to_dict())
        assert Path("page/eval.md").exists()
        assert called.results[0].figures.top1 == typed.document["results"][0]["top1"]


def test_a_foreign_file_is_told_of_as_load_is(folder: Path) -> None:
    """The mean and standard deviation of the teacher, said of its bare tensors."""
    teacher = idsnn_cli.load("typed/run/teacher.safetensors")
    state = {key: value for key, value in teacher.state_dict().items() if not key.startswith("input.")}
    torch.save(state, "bare.pth")
    mean, std = (teacher.get_buffer(f"input.{each}").flatten().tolist() for each in ("mean", "std"))
    words = ["data.dataset=digits", "data.subset=80", "data.test_subset=40"]
    bare = idsnn_cli.evaluate("bare.pth", overrides=words, normalise=(mean, std), kind="ann")
    whole = idsnn_cli.evaluate("typed/run/teacher.safetensors", overrides=words[1:])
    assert bare.results[0].figures.top1_by_step == whole.results[0].figures.top1_by_step


@pytest.mark.slow
def test_convert_gives_the_bytes_of_the_command(capsys: Capture, folder: Path) -> None:
    save_network(folder / "net.safetensors", "teacher", build_description("resnet8", 10, width=4, shortcut="pad"))
    words = ["data.subset=60", "data.test_subset=20", "pretrain.epochs=1", "distill.epochs=1"]
    common = ("--data", "digits", "-T", "2", "--run-dir", "typed/c", "-o", "typed.safetensors", "--json")
    typed = invoke(capsys, "convert", "net.safetensors", *words, *common)
    called = idsnn_cli.convert(
        "net.safetensors", "digits", timesteps=2, overrides=words, run_dir="called/c", output="called.safetensors"
    )
    assert typed.code == 0, typed.err
    assert isinstance(called, RunDone)
    assert Path("typed.safetensors").read_bytes() == Path("called.safetensors").read_bytes()
    assert untimed(typed.document) == untimed(called.to_dict())


def test_initialize_gives_the_tensors_of_the_command(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def recorded(*given: Any, **options: Any) -> Any:
        asked.append(options)
        return standalone.initialize(*given, **options)

    monkeypatch.setattr(first_weights, "initialize", recorded)
    source = "typed/run/teacher.safetensors"
    typed = invoke(capsys, "init", "--from", source, "--arch", "spiking-resnet8", "-o", "init.safetensors")
    assert typed.code == 0, typed.err
    assert len(asked) == 1
    assert idsnn_cli.initialize is standalone.initialize
    called = idsnn_cli.initialize(source, "spiking-resnet8", seed=derive_seed(0, "init", "weights"))
    written = idsnn_cli.load("init.safetensors").state_dict()
    assert written.keys() == called.state.keys()
    assert [name for name in written if not torch.equal(written[name], called.state[name])] == []


def test_a_network_that_was_saved_is_measured_as_it_was(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def recorded(path: Any, **options: Any) -> Any:
        read.append(path)
        return idsnn_cli.load(path, **options)

    monkeypatch.setattr(workspace, "load", recorded)
    idsnn_cli.save(idsnn_cli.load("typed/run/init.safetensors"), "copy.safetensors")
    found = []
    for file in ("typed/run/init.safetensors", "copy.safetensors"):
        words = ("data.dataset=digits", "data.test_subset=40", "--json")
        (row,) = invoke(capsys, "eval", "--checkpoint", file, *words).document["results"]
        found.append({key: each for key, each in untimed(row).items() if key not in ("name", "epochs")})
    assert found[0] == found[1]
    assert list(map(str, read)) == ["typed/run/init.safetensors", "copy.safetensors"], "the command reads by `load`"


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        (
            "distill",
            ("distill", "tiny.yaml", "seed=1", "--run-dir", "r", "--teacher", "t", "--student", "s", "--force"),
            {"run_dir": Path("r"), "teacher": Path("t"), "student": Path("s"), "force": True},
        ),
        (
            "evaluate_run",
            ("eval", "tiny.yaml", "seed=1", "--student", "s", "-o", "o", "--report", "p", "--device", "cpu"),
            {"student": Path("s"), "output": Path("o"), "report": Path("p"), "device": "cpu"},
        ),
        (
            "evaluate",
            ("eval", "--checkpoint", "c.pth", "--data", "digits", "--levels", "4", "--normalise", "half"),
            {"levels": 4, "normalise": "half"},
        ),
        (
            "convert",
            ("convert", "c.pth", "seed=1", "--data", "digits", "-T", "2", "--normalise", "half", "--force", "-o", "o"),
            {"timesteps": 2, "normalise": "half", "force": True, "output": Path("o"), "overrides": ["seed=1"]},
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_the_command_makes_the_call(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, name: str, words: tuple[str, ...], expected: dict[str, Any]
) -> None:
    """By its public name, with all that was typed, which its signature takes."""
    asked: list[tuple[Any, ...]] = []
    signature = inspect.signature(getattr(calls, name))

    def heard(*given: Any, **options: Any) -> Any:
        signature.bind(*given, **options)
        asked.append((given, options))
        raise MissingInputError("heard", "it")

    monkeypatch.setattr(calls, name, heard)
    assert getattr(idsnn_cli, name) is heard
    found = invoke(capsys, *words)
    assert "heard" in found.err
    ((given, options),) = asked
    assert str(given[0]) == ("tiny.yaml" if "tiny.yaml" in words else "c.pth")
    assert given[1] == (["seed=1"] if "tiny.yaml" in words else "digits")
    assert {key: options.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", CALLS)
def test_the_calls_are_public_typed_and_described(name: str) -> None:
    call = getattr(idsnn_cli, name)
    assert name in idsnn_cli.__all__
    parameters = inspect.signature(call).parameters
    assert all(each.annotation is not inspect.Parameter.empty for each in parameters.values())
    words = inspect.getdoc(call) or ""
    assert "Raises" in words
    described = words if name not in ("evaluate", "evaluate_run") else words + str(inspect.getdoc(idsnn_cli.load))
    described += str(inspect.getdoc(idsnn_cli.distill)) + str(inspect.getdoc(idsnn_cli.evaluate))
    assert [each for each in parameters if each not in described] == []


def test_what_is_handed_out_is_what_is_listed() -> None:
    assert all(getattr(idsnn_cli, name) is not None for name in idsnn_cli.__all__)
    assert get_type_hints(calls.open_run)
    with pytest.raises(AttributeError):
        idsnn_cli.nothing  # noqa: B018


def test_the_calls_are_listed_before_their_first_use() -> None:
    script = "import sys, idsnn_cli; print(set(idsnn_cli.__all__) <= set(dir(idsnn_cli)), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
