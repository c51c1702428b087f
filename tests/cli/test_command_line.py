from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from invoking import invoke
from typer.testing import CliRunner

from idsnn_cli.cli.main import app
from idsnn_cli.version import __version__

ROOT = Path(__file__).parents[2]
COMMANDS = ["run", "convert", "teacher", "pretrain", "init", "distill", "eval", "export", "report", "inspect"]
COMMANDS += ["recipes", "doctor", "push"]
WITH_RECIPE = ["run", "teacher", "init", "distill", "eval"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def process(*words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["inspect", "-h"], ["--version"], ["recipes"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys\nfrom idsnn_cli.cli.main import main\n"
        f"sys.argv = ['idsnn', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n"
        "    heavy = {'torch', 'torchvision', 'numpy', 'safetensors'} & set(sys.modules)\n"
        "    print('heavy:', sorted(heavy), 'code:', stop.code, file=sys.stderr)\n"
    )
    done = process("-c", script)
    assert "heavy: [] code: 0" in done.stderr
    assert done.stdout


def test_the_module_runs_as_the_command_does() -> None:
    done = process("-m", "idsnn_cli", "--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    assert "idsnn run quickstart" in done.stdout


def test_the_package_itself_imports_no_torch() -> None:
    done = process("-c", "import sys, idsnn_cli; print('torch' in sys.modules, idsnn_cli.__version__)")
    assert done.stdout.split() == ["False", __version__]


def test_version(capsys: Capture) -> None:
    found = invoke(capsys, "--version")
    assert (found.code, found.out) == (0, f"idsnn {__version__}\n")


def test_nothing_at_all_shows_the_help(capsys: Capture) -> None:
    found = invoke(capsys)
    assert all(command in found.out + found.err for command in COMMANDS)


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_group_has_help_that_names_every_command(option: str) -> None:
    result = CliRunner().invoke(app, [option])
    assert result.exit_code == 0
    listed = {name for name, *_ in (line.strip("│ ").split(" ") for line in result.output.splitlines())}
    assert set(COMMANDS) <= listed
    assert {"-h", "--install-completion", "--show-completion"} <= set(result.output.split())
    assert set(COMMANDS) == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # of a group


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", [*COMMANDS, "recipes show", "recipes cp"])
def test_every_command_has_help(command: str, option: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), option])
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert "--json" in result.output
    assert "--quiet" in result.output


@pytest.mark.parametrize("command", WITH_RECIPE)
def test_the_commands_on_recipes_share_their_options(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    for option in ("--run-dir", "--device", "--dry-run"):
        assert option in result.output
    assert ("--force" in result.output) == (command != "eval")


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["--bogus"],
        ["run", "--bogus"],
        ["inspect"],
        ["inspect", "a", "b", "c"],
        ["inspect", "a", "--bogus"],
        ["recipes", "bogus"],
        ["recipes", "show"],
        ["doctor", "word"],
        ["init", "--num-classes", "0"],
        ["init", "--num-classes", "ten"],
    ],
)
def test_wrong_words_exit_with_2(capsys: Capture, words: list[str]) -> None:
    found = invoke(capsys, *words)
    assert found.code == 2
    assert found.out == ""
    assert found.err


def test_a_mistyped_command_gets_its_near_match(capsys: Capture) -> None:
    assert "distill" in invoke(capsys, "distil").err


@pytest.mark.parametrize("command", WITH_RECIPE)
def test_no_recipe_exits_with_2_and_lists_those_that_ship(capsys: Capture, command: str) -> None:
    found = invoke(capsys, command)
    assert found.code == 2
    assert "quickstart" in found.err


@pytest.mark.parametrize("command", WITH_RECIPE)
def test_an_unknown_recipe_exits_with_2_and_the_near_match(capsys: Capture, command: str) -> None:
    found = invoke(capsys, command, "quikstart", "--json")
    assert found.code == 2
    error = found.document["error"]
    assert error["type"] == "RecipeError"
    assert "Did you mean 'quickstart'?" in error["message"]
    assert "cifar100" in error["fix"]


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["quickstart", "distill.alhpa=1"], "distill.alhpa"),
        (["quickstart", "distill.alpha=much"], "distill.alpha"),
        (["quickstart", "student.timesteps=0"], "student.timesteps"),
        (["quickstart", "alpha=1"], "alpha"),
        (["quickstart", "distill.alpha="], "distill.alpha"),
    ],
)
def test_a_fault_in_an_override_exits_with_2_and_names_its_place(capsys: Capture, words: list[str], place: str) -> None:
    found = invoke(capsys, "run", *words, "--dry-run", "--json")
    assert found.code == 2
    assert place in found.document["error"]["message"]
    assert place in found.err
    assert not Path("runs").exists()


def test_a_fault_in_a_file_names_line_and_column(capsys: Capture) -> None:
    Path("mine.yaml").write_text("data:\n  dataset: digits\ndistill:\n  alhpa: 1\n")
    found = invoke(capsys, "run", "mine.yaml")
    assert found.code == 2
    assert "mine.yaml:4:3" in found.err
    assert "Did you mean 'alpha'?" in found.err


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "gone.safetensors"],
        ["inspect", "gone.safetensors", "gone.pth", "--exit-code"],
        ["eval", "--checkpoint", "gone.safetensors"],
        ["init", "--from", "gone.pth", "--arch", "spiking-resnet18", "-o", "init.safetensors"],
        ["init", "quickstart", "--teacher", "gone.safetensors"],
        ["distill", "quickstart"],
        ["eval", "quickstart"],
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_missing_checkpoint_exits_with_1_and_a_fix(capsys: Capture, words: list[str], as_json: bool) -> None:
    found = invoke(capsys, *words, *(["--json"] if as_json else []))
    assert found.code == 1
    assert "Error" in found.err
    if as_json:
        error = found.document["error"]
        assert set(error) == {"type", "message", "fix"}
        assert error["type"] in ("CheckpointError", "MissingInputError")
        assert error["message"] in found.err
        assert error["fix"]
    else:
        assert found.out == ""


def test_a_dry_run_does_nothing_and_exits_with_0(capsys: Capture) -> None:
    found = invoke(capsys, "run", "quickstart", "--dry-run", "--json")
    assert found.code == 0
    assert found.document["dry_run"] is True
    assert [step["step"] for step in found.document["steps"]] == ["teacher", "init", "distill", "baseline", "eval"]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_outside_training_ends_with_its_own_code(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    monkeypatch.setattr("idsnn_cli.doctor.examination.examine", lambda: signal.raise_signal(number))
    found = invoke(capsys, "doctor")
    assert found.code == code
    assert found.out == ""


def test_output_into_a_closed_pipe_ends_without_a_traceback() -> None:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    # The reader has left before the first line: what `| head -0` does, without the race.
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "idsnn_cli", "recipes", "show", "cifar100"],
            env=os.environ | {"PYTHONPATH": paths},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "--num-classes", "x", "--json"),
        ("run", "quickstart", "--nonsense", "--json"),
        ("nonsense", "--json"),
        ("--json", "run"),
    ],
)
def test_words_that_cannot_be_parsed_are_a_document_too(capsys: Capture, words: tuple[str, ...]) -> None:
    found = invoke(capsys, *words)
    assert found.code == 2
    error = found.document["error"]
    assert error["type"] == "UsageError"
    assert error["message"]
    assert "--help" in error["fix"]
    plain = invoke(capsys, *(word for word in words if word != "--json"))
    if len(words) > 1 and words[0] != "--json":
        assert (plain.code, plain.out) == (2, "")
        assert "Usage: " in plain.err


def test_help_and_success_keep_their_codes_with_json(capsys: Capture) -> None:
    assert "Usage: " in invoke(capsys, "inspect", "--help", "--json").out
    assert invoke(capsys, "recipes", "--json").code == 0
