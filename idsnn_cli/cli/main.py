"""The command line: the application, and what every failure looks like."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.distill import distill
from idsnn_cli.cli.doctor import doctor
from idsnn_cli.cli.eval import evaluate
from idsnn_cli.cli.export import export
from idsnn_cli.cli.init import init
from idsnn_cli.cli.inspect import inspect
from idsnn_cli.cli.pretrain import pretrain
from idsnn_cli.cli.recipes import recipes
from idsnn_cli.cli.report import report
from idsnn_cli.cli.run import run
from idsnn_cli.cli.teacher import teacher
from idsnn_cli.errors import IdsnnError, UsageError
from idsnn_cli.version import __version__

app = typer.Typer(
    name="idsnn",
    help="Turn the ResNets you have into fast, low-latency spiking networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: idsnn run quickstart",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"idsnn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


# What typer raises for words that it cannot parse; it names none of the classes above this one itself.
_WrongWords: type[Exception] = typer.BadParameter.__mro__[1]

app.command("run")(run)
app.command("teacher")(teacher)
app.command("pretrain")(pretrain)
app.command("init")(init)
app.command("distill")(distill)
app.command("eval")(evaluate)
app.command("export")(export)
app.command("report")(report)
app.command("inspect")(inspect)
app.add_typer(recipes, name="recipes")
app.command("doctor")(doctor)


class _Stopped(BaseException):
    """SIGINT or SIGTERM outside training, where nothing is half done that a file would show."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise _Stopped(number)


def _as_usage_error(wrong: Any) -> UsageError:
    context = getattr(wrong, "ctx", None)
    command = "idsnn" if context is None else context.command_path
    return UsageError(wrong.format_message(), f"See {command} --help.")


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 expected failure, 2 wrong usage, 130 interrupted, 143 terminated."""
    # Typer would turn Ctrl-C into exit 1, so SIGINT has a handler of its own too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    as_json = "--json" in sys.argv
    try:
        # For a person typer words and frames its own usage errors; a program reads them as the document of any other.
        code = (app(standalone_mode=False) or 0) if as_json else app() or 0
    except _WrongWords as wrong:
        error = _as_usage_error(wrong)
        Console(as_json=True).error(error)
        code = error.exit_code
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except IdsnnError as failure:
        Console(as_json=as_json).error(failure)
        code = failure.exit_code
    except _Stopped as stopped:
        code = stopped.exit_code
    except BrokenPipeError:
        # The reader of our output has left (`idsnn inspect FILE | head`): nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if "RANK" in os.environ and "torch.distributed" in sys.modules:
        # Under torchrun torch now and then aborts while it tears its threads down, after all work is done and written.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
