"""What the TAB key offers: by typer's protocol in this process, and by the script that each shell really sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from invoking import invoke

from idsnn_cli import registry
from idsnn_cli.architecture import spiking_names
from idsnn_cli.cli.completion import NORMALISATIONS
from idsnn_cli.cli.main import app
from idsnn_cli.errors import IdsnnError
from idsnn_cli.recipe import recipe_from_mapping, shipped
from idsnn_cli.rules import choices

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
# With it typer takes the shell's name from the option instead of from the process that started it.
NAMED = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
RECIPES = [recipe.name for recipe in shipped()]
DATA_SETS = registry.names("idsnn_cli.data.sets")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ru", ["run"]),
        ("run qui", ["quickstart"]),
        ("run ", RECIPES),
        ("teacher runtime.threads=1 paper/table1", [name for name in RECIPES if name.startswith("paper/table1")]),
        ("run quickstart ", []),
        ("run ./qui", []),
        ("run quickstart student.arch=", []),
        ("init --from net.pth ", []),
        ("eval --checkpoint net.pth quick", []),
        ("init --arch spiking-vgg", [name for name in spiking_names() if "vgg" in name]),
        ("inspect --plan net.pth --to spiking-resnet18", ["spiking-resnet18"]),
        ("init --channels ", [*choices("channels")]),
        ("init --noise ", []),
        ("init --kind ", ["ann"]),
        ("eval --data ", [*DATA_SETS]),
        ("convert net.pth --data ni", []),
        ("convert net.pth --data nm", ["nmnist"]),
        ("export net.safetensors --data di", ["digits"]),
        ("export net.safetensors --format sn", ["snntorch"]),
        ("eval --measure energy,e", ["energy,early-exit"]),
        ("eval --normalise ", [*NORMALISATIONS]),
        ("distill --device c", ["cpu", "cuda"]),
        ("recipes ", ["show", "cp"]),
        ("recipes cp smo", [name for name in RECIPES if name.startswith("smo")]),
        ("inspect net", []),
        ("distill --run-dir ru", []),
    ],
)
def test_what_is_offered(capsys: Capture, monkeypatch: pytest.MonkeyPatch, line: str, offered: list[str]) -> None:
    monkeypatch.setenv("_IDSNN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"idsnn {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
    found = invoke(capsys)
    assert (found.code, found.err) == (0, "")
    assert found.out.split() == offered


@pytest.mark.parametrize("word", NORMALISATIONS)
def test_what_is_offered_for_normalise_is_what_a_recipe_takes(word: str) -> None:
    plain = {"data": {"dataset": "digits"}, "teacher": {"checkpoint": "net.pth", "normalise": word}}
    assert recipe_from_mapping(plain, [], origin="test").teacher.normalise == word
    with pytest.raises(IdsnnError):
        recipe_from_mapping(plain, [f"teacher.normalise={word}x"], origin="test")


def test_every_option_of_networks_data_and_recipes_offers_something() -> None:
    """A command that comes later is not forgotten."""
    group = typer.main.get_command(app)
    silent = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]  # of a group
        for each in command.params:
            by_name = {"data", "arch", "to", "device", "normalise", "measure", "format_"} & {each.name}
            words = each.name == "words" and (each.metavar or "").startswith("RECIPE")
            if (by_name or words) and each._custom_shell_complete is None:
                silent.append((name, each.name))
    assert silent == []


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and ``idsnn`` on the path."""
    command = tmp_path / "bin" / "idsnn"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m idsnn_cli "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "HOME": str(tmp_path), "COLUMNS": "80"}


def test_completing_imports_nothing_heavy(environment: dict[str, str]) -> None:
    script = (
        "import sys\nfrom idsnn_cli.cli.main import main\nsys.argv = ['idsnn']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n"
        "    heavy = {'torch', 'torchvision', 'numpy', 'safetensors'} & set(sys.modules)\n"
        "    print('heavy:', sorted(heavy), 'code:', stop.code, file=sys.stderr)\n"
    )
    asked = {"_IDSNN_COMPLETE": "complete_bash", "PYTHONPATH": str(ROOT)}
    for line in ("idsnn run qui", "idsnn eval --data ", "idsnn init --arch spi"):
        told = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment | asked | told, capture_output=True, text=True, check=True)
        assert done.stdout
        assert "heavy: [] code: 0" in done.stderr


# Each sources what `idsnn --show-completion` prints, asks what its own completion makes of a line, and prints that.
ASK = {
    "bash": """
        eval "$(idsnn --show-completion bash)"
        complete -p idsnn
        COMP_WORDS=(idsnn LINE); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _idsnn_completion idsnn
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    # The part of zsh's own completion that typer's script calls, which needs a terminal, says what it was given.
    "zsh": """
        compdef() { print -- "complete $@" }
        _arguments() { print -rl -- "$@" }
        _files() { print files }
        eval "$(idsnn --show-completion zsh)"
        words=(idsnn LINE); CURRENT=$#words; _idsnn_completion
    """,
    "fish": """
        idsnn --show-completion fish | source
        complete -c idsnn
        complete -C "idsnn LINE"
    """,
}
PLAIN = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}


@pytest.mark.slow
@pytest.mark.parametrize("shell", ASK)
def test_a_real_shell_offers_it(shell: str, environment: dict[str, str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = ASK[shell].replace("LINE", "run quick")
    done = subprocess.run(
        [shell, *PLAIN[shell], "-c", program], env=environment | NAMED, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert "_idsnn_completion" in done.stdout or "_IDSNN_COMPLETE" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert "quickstart" in last
    assert shell == "bash" or "The whole method" in last, "what the recipe is for stands beside it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "script", "start"),
    [
        ("bash", ".bash_completions/idsnn.sh", ".bashrc"),
        ("zsh", ".zfunc/_idsnn", ".zshrc"),
        ("fish", ".config/fish/completions/idsnn.fish", None),
    ],
)
def test_installing_writes_where_each_shell_looks(
    shell: str, script: str, start: str | None, environment: dict[str, str]
) -> None:
    home = Path(environment["HOME"])
    done = subprocess.run(
        ["idsnn", "--install-completion", shell], env=environment | NAMED, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "_IDSNN_COMPLETE" in (home / script).read_text()
    assert start is None or Path(script).parts[0] in (home / start).read_text()
