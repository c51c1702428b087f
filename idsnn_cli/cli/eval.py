"""``idsnn eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from idsnn_cli.cli.completion import NORMALISATIONS, files_of, one_of, several_of
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import (
    Device,
    DryRun,
    Json,
    JsonFile,
    Quiet,
    RunDir,
    Stride,
    StudentFile,
    Words,
    refuse_with,
    refuse_without,
    with_foreign_options,
)
from idsnn_cli.cli.steps import run_step
from idsnn_cli.errors import UsageError, did_you_mean
from idsnn_cli.registry import names
from idsnn_cli.sources.names import Source, parse_source

Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        help="Measure this network (a file, torchvision:NAME, timm:NAME or hf://USER/REPO); its own recipe names the "
        "data.",
        metavar="FILE",
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        help=f"With --checkpoint: {', '.join(names('idsnn_cli.data.sets'))}; NAME:PATH says where.",
        metavar="NAME[:PATH]",
        autocompletion=files_of("idsnn_cli.data.sets"),
    ),
]
Normalise = Annotated[
    str | None,
    typer.Option(
        "--normalise",
        help="With a foreign --checkpoint: what it was trained with: imagenet, cifar10, cifar100, none, half, "
        "cifar10-std0.2, or auto, which finds it from training images.",
        metavar="NAME",
        autocompletion=one_of(*NORMALISATIONS),
    ),
]


Full = Annotated[bool, typer.Option("--full", help="Every measure, also beyond T; about 20 passes over the images.")]
Measures = Annotated[
    str | None,
    typer.Option(
        "--measure",
        help=f"More than accuracy: {', '.join(names('idsnn_cli.evaluation.measures'))}.",
        metavar="NAME,...",
        autocompletion=several_of("idsnn_cli.evaluation.measures"),
    ),
]
Timesteps = Annotated[
    int | None, typer.Option("--timesteps", help="Accuracy beyond the network's T, up to N steps.", metavar="N", min=2)
]
Report = Annotated[
    Path | None,
    typer.Option("--report", help="Write a Markdown page with plots into this folder.", metavar="DIR"),
]


@with_foreign_options(normalise=Normalise, bottleneck_stride=Stride)
def evaluate(
    words: Words = None,
    checkpoint: Checkpoint = None,
    data: DataName = None,
    *,
    foreign: dict[str, Any],
    full: Full = False,
    measure: Measures = None,
    timesteps: Timesteps = None,
    report: Report = None,
    student: StudentFile = None,
    run_dir: RunDir = None,
    output: JsonFile = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Measure a run's networks into RUN/eval.json, or any checkpoint of ours or of others."""
    console = Console(as_json=as_json, quiet=quiet)
    words = [*(words or []), *measure_overrides(full, measure, timesteps, console)]
    if checkpoint is None:
        refuse_without("--checkpoint FILE", {"data": data, **foreign})
        run_step(
            "eval",
            console,
            words,
            run_dir=run_dir,
            device=device,
            dry_run=dry_run,
            student=student,
            output=output,
            report=report,
        )
        return
    refuse_with("--checkpoint", {"student": student, "run_dir": run_dir})
    source = parse_source(checkpoint)
    _measure(console, source, words, data, foreign, device, output=output, report=report, dry_run=dry_run)


def _measure(
    console: Console,
    source: Source,
    words: list[str],
    data: str | None,
    foreign: dict[str, Any],
    device: str | None,
    *,
    output: Path | None,
    report: Path | None,
    dry_run: bool,
) -> None:
    """Measure one network that is named, or show what that would read and write."""
    from idsnn_cli.cli.opening import request_of
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.cli.show import show_evaluation, show_plan
    from idsnn_cli.pipeline import calls
    from idsnn_cli.pipeline.measuring import PAGE
    from idsnn_cli.pipeline.standalone import measuring_workspace, preview_measuring
    from idsnn_cli.pipeline.steps.base import Given
    from idsnn_cli.recipe import device_words

    if dry_run:
        workspace = measuring_workspace(
            request_of(console, source, "--checkpoint", words, foreign), data, device_words(device)
        )
        workspace.settle_process()
        given = Given(checkpoint=source, output=output, report=report)
        show_plan(console, "eval", preview_measuring(workspace, given))
        return
    found = calls.evaluate(
        source,
        data,
        overrides=words,
        output=output,
        report=report,
        device=device,
        events=TrainingDisplay(console),
        **foreign,
    )
    document = found.to_dict()
    console.document({"command": "eval", **document})
    show_evaluation(console, document)
    if report is not None:
        console.line(f"report: {report / PAGE}")


def measure_overrides(full: bool, measure: str | None, timesteps: int | None, console: Console) -> list[str]:
    """The overrides that the options stand for. Raises :class:`UsageError` for a measure that there is not."""
    from idsnn_cli.recipe import measure_words
    from idsnn_cli.recipe.schema import MEASURES

    if full and measure is not None:
        raise UsageError("both --full and --measure are given", "--full is every measure: use one of them.")
    asked = [name.strip() for name in (measure or "").split(",")] if measure is not None else []
    for name in asked:
        if name not in MEASURES:
            known = ", ".join(MEASURES)
            raise UsageError(
                f"--measure '{name}' is not known.{did_you_mean(name, MEASURES)}", f"Give some of: {known}."
            )
    chosen = _every(console) if full else asked
    return measure_words(chosen, timesteps)


def _every(console: Console) -> tuple[str, ...]:
    """Every measure that can be had here."""
    from idsnn_cli.evaluation.measure import available
    from idsnn_cli.recipe.schema import MEASURES

    there = available()
    for name in MEASURES:
        if name not in there:
            console.say(f"--full leaves {name} out, whose library is not installed; --measure {name} says which.")
    return there
