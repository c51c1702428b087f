"""The options that commands share, each written once.

The mapping rules are among them: ``--channels uniform`` is the override ``init.channels=uniform``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from idsnn_cli.cli.completion import DEVICES, one_of, recipe_word, rule
from idsnn_cli.errors import UsageError
from idsnn_cli.rules import OPTIONS, help_line

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RECIPE [section.key=value ...]",
        help="A recipe's name or path, and overrides of it.",
        autocompletion=recipe_word,
    ),
]
RunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="The run directory; by default runs/<recipe name>.", metavar="DIR")
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE", autocompletion=one_of(*DEVICES)),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no hints.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Resolve and check everything, print the plan, do nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Start this step anew, replacing its outputs.")]
Weights = Annotated[
    Literal["auto", "ema", "raw"] | None,
    typer.Option(
        "--weights", help="Of a foreign file with raw and averaged (EMA) weights: which; auto takes the averaged."
    ),
]
FileKind = Annotated[
    Literal["ann", "spiking"] | None,
    typer.Option(
        "--kind",
        help="What a state dict is that does not tell whether it spikes: ann (ReLU), or spiking, with "
        "student.timesteps=T student.v_threshold=THETA student.decay=D beside it.",
    ),
]
AnnKind = Annotated[
    Literal["ann"] | None,
    typer.Option("--kind", help="ann: the source is no spiking network, where a state dict does not tell."),
]
Stride = Annotated[
    Literal["3x3", "1x1"] | None,
    typer.Option("--bottleneck-stride", help="Of a foreign file's bottlenecks: which convolution strides, 3x3 or 1x1."),
]
AllowUnused = Annotated[
    bool, typer.Option("--allow-unused", help="Drop a foreign file's tensors that nothing explains and no block has.")
]
Scheme = Annotated[
    Path | None,
    typer.Option(
        "--scheme", help="A YAML table of a foreign file's tensor names (docs/checkpoints.md).", metavar="FILE"
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root", help="Of a foreign file with several networks: what the one's names begin with.", metavar="PREFIX"
    ),
]
Levels = Annotated[
    int | None,
    typer.Option(
        "--levels", help="Of a foreign file's QCFS activations: the values above 0 that each has.", metavar="L", min=1
    ),
]
OptionA = Annotated[
    Literal["pad", "pad-end"] | None,
    typer.Option(
        "--option-a",
        help="Of a foreign file's shortcuts without weights: half of the zeros before and half behind, or all behind.",
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the checkpoint here.", metavar="FILE")]
JsonFile = Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON document here.", metavar="FILE")]
Html = Annotated[Path | None, typer.Option("--html", help="Write one self-contained page here.", metavar="FILE")]
TeacherFile = Annotated[
    Path | None, typer.Option("--teacher", help="The teacher's checkpoint, instead of RUN's.", metavar="FILE")
]
StudentFile = Annotated[
    Path | None, typer.Option("--student", help="The student's checkpoint, instead of RUN's.", metavar="FILE")
]


def option_name(key: str) -> str:
    """``allow_unused`` -> ``--allow-unused``."""
    return f"--{key.replace('_', '-')}"


def refuse_without(needed: str, given: dict[str, Any]) -> None:
    """Raise :class:`UsageError` for an option, by its key, that goes with ``needed`` alone."""
    for key, value in given.items():
        if value is not None:
            raise UsageError(f"{option_name(key)} goes with {needed}", "With a recipe, set it there.")


def refuse_with(option: str, given: dict[str, Any]) -> None:
    """Raise :class:`UsageError` for an option, by its key, that does not go with ``option``."""
    for key, value in given.items():
        if value is not None:
            raise UsageError(f"{option_name(key)} does not go with {option}", "Leave it out.")


# How a foreign file is read, by the keys of a recipe's ``teacher`` section; commands add to them or replace ``kind``.
FOREIGN: dict[str, Any] = {
    "weights": Weights,
    "allow_unused": AllowUnused,
    "scheme": Scheme,
    "kind": FileKind,
    "root": Root,
    "levels": Levels,
    "option_a": OptionA,
}
KEYS = tuple(key for key, option in OPTIONS.items() if option.help)


def with_foreign_options(**own: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates a command: where its parameter ``foreign`` stands there are the options about a foreign file, and it
    gets those given as a dictionary by their keys.

    ``own`` are options that not all commands have, which come first, or a ``kind`` of other choices.
    """
    options = {key: annotation for key, annotation in own.items() if key not in FOREIGN} | FOREIGN | own

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def wrapped(**given: Any) -> None:
            values = {key: given.pop(key) for key in options}
            plain = {key: str(each) if isinstance(each, Path) else each for key, each in values.items()}
            command(**given, foreign={key: each for key, each in plain.items() if each not in (None, False)})

        added = [_parameter(key, each, False if each is AllowUnused else None) for key, each in options.items()]
        return _with_parameters(wrapped, command, "foreign", added)

    return decorate


def with_mapping_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with an option for each mapping rule; it gets those given as ``mapping``, a list of overrides."""

    @wraps(command)
    def wrapped(**options: Any) -> None:
        given = {key: options.pop(key) for key in KEYS}
        mapping = [f"init.{key}={value}" for key, value in given.items() if value is not None]
        command(**options, mapping=mapping)

    return _with_parameters(wrapped, command, "mapping", [_parameter(key, _annotation(key)) for key in KEYS])


def _parameter(key: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _with_parameters(
    wrapped: Callable[..., None], command: Callable[..., None], place: str, added: list[inspect.Parameter]
) -> Callable[..., None]:
    """``wrapped`` with the parameters of ``command``, but ``added`` where its parameter ``place`` stands."""
    signature = inspect.signature(command, eval_str=True)
    ordered: list[inspect.Parameter] = []
    for name, each in signature.parameters.items():
        ordered += added if name == place else [each.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    wrapped.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]  # typer reads it
    wrapped.__annotations__ = {each.name: each.annotation for each in ordered} | {"return": None}
    return wrapped


def _annotation(key: str) -> Any:
    words, name = help_line(key).replace("`", ""), f"--{key.replace('_', '-')}"
    option = typer.Option(
        name, help=words, metavar=OPTIONS[key].metavar, rich_help_panel="Mapping rules", autocompletion=rule(key)
    )
    return Annotated[str | None, option]
