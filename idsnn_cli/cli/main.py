"""The command line: the application, and what every failure looks like."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.convert import convert
from idsnn_cli.cli.distill import distill
from idsnn_cli.cli.doctor import doctor
from idsnn_cli.cli.eval import evaluate
from idsnn_cli.cli.export import export
from idsnn_cli.cli.hints import Commands, WrongWords
from idsnn_cli.cli.init import init
from idsnn_cli.cli.inspect import inspect
from idsnn_cli.cli.pretrain import pretrain
from idsnn_cli.cli.push import push
from idsnn_cli.cli.recipes import recipes
from idsnn_cli.cli.report import report
from idsnn_cli.cli.run import run
from idsnn_cli.cli.stopping import until_stopped
from idsnn_cli.cli.teacher import teacher
from idsnn_cli.errors import IdsnnError, UsageError
from idsnn_cli.systems import reader_left
from idsnn_cli.text import excerpt
from idsnn_cli.version import __version__

app = typer.Typer(
    name="idsnn",
    cls=Commands,
    help="Turn the ResNets you have into fast, low-latency spiking networks.",
    no_args_is_help=True,
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


app.command("run")(run)
app.command("convert")(convert)
app.command("teacher")(teacher)
app.command("pretrain")(pretrain)
app.command("init")(init)
app.command("distill")(distill)
app.command("eval")(evaluate)
app.command("export")(export)
app.command("push")(push)
app.command("report")(report)
app.command("inspect")(inspect)
app.add_typer(recipes, name="recipes")
app.command("doctor")(doctor)


def _as_usage_error(wrong: Any) -> UsageError:
    context = getattr(wrong, "ctx", None)
    command = "idsnn" if context is None else context.command_path
    return UsageError(wrong.format_message(), f"See {command} --help.")


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 expected failure, 2 wrong usage, 130 interrupted, 143 terminated."""
    until_stopped(run_command_line)


def run_command_line() -> int:
    """The exit code of the command in ``sys.argv``, whose failures are told here; a signal's is not."""
    _settle_threads()
    _settle_apple_gpu()
    _settle_streams()
    as_json = "--json" in sys.argv
    try:
        # For a person typer words and frames its own usage errors; a program reads them as the document of any other.
        # By its name the shells' completion calls it; under `python -m idsnn_cli` typer would take another.
        code = app(prog_name="idsnn", standalone_mode=not as_json) or 0
        sys.stdout.flush()
    except WrongWords as wrong:
        error = _as_usage_error(wrong)
        Console(as_json=True).error(error)
        code = error.exit_code
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        code = _flushed(code)
    except IdsnnError as failure:
        Console(as_json=as_json).error(failure)
        code = failure.exit_code
    except OSError as refused:
        code = _refused(refused, as_json)
    if "RANK" in os.environ and "torch.distributed" in sys.modules:
        # Under torchrun torch now and then aborts while it tears its threads down, after all work is done and written.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _settle_threads() -> None:
    """Let OpenMP's threads, unless the environment says how they wait, look for work 20,000 times, not 300,000.

    They spin meanwhile, for some 15 ms, and take a core from the compiled loops that come next: a training step of a
    thin Spiking ResNet-20 on two cores took 347 instead of 434 ms. Read when torch is loaded.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "20000"


def _settle_apple_gpu() -> None:
    """Let torch do on the CPU what it lacks on Apple's GPUs, unless the environment says otherwise; read at import."""
    if sys.platform == "darwin":
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def _settle_streams() -> None:
    """Let output reach a terminal of any encoding, and a closed one be no error of its own."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _flushed(code: int) -> int:
    """``code``, or 1 where what was printed does not reach its place."""
    try:
        sys.stdout.flush()
    except OSError as refused:
        return _refused(refused, as_json=False, code=code)
    return code


def _refused(error: OSError, as_json: bool, code: int = 0) -> int:
    """What the system refused, told as any other failure: a path that is too long, a disk that is full.

    Where the reader of our output has left (``idsnn inspect FILE | head``) nothing is told, and ``code`` stays.
    """
    if reader_left(error):
        _silence_stdout()
        return code
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    if error.filename is None:
        # Of what has no name it is our own output, which the document of the error would not reach either.
        _silence_stdout()
        failure = IdsnnError(f"the output could not be written: {reason}", "Free some space, or send it elsewhere.")
        Console().error(failure)
    else:
        failure = IdsnnError(f"{excerpt(str(error.filename), 200)}: {reason}", "Check the path and its permissions.")
        Console(as_json=as_json).error(failure)
    return failure.exit_code


def _silence_stdout() -> None:
    """Let what is still to be written to stdout go nowhere, so that the interpreter's end is no second error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
