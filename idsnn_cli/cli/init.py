"""``idsnn init``, with a recipe or on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from idsnn_cli.cli.completion import NORMALISATIONS, networks, one_of
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import (
    AnnKind,
    Device,
    DryRun,
    Force,
    Json,
    Output,
    Quiet,
    RunDir,
    TeacherFile,
    Words,
    refuse_with,
    refuse_without,
    with_foreign_options,
    with_mapping_options,
)
from idsnn_cli.cli.steps import run_step
from idsnn_cli.sources.names import Source, parse_source

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Start from this ResNet: a checkpoint, torchvision:NAME, timm:NAME or hf://USER/REPO. No recipe is needed "
        "then.",
        metavar="CKPT",
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="With --from: the student, spiking-resnet18 for one.",
        metavar="NAME",
        autocompletion=networks,
    ),
]
Classes = Annotated[
    int | None, typer.Option("--num-classes", min=1, help="With --from: classes; by default the source's.")
]
Normalise = Annotated[
    str | None,
    typer.Option(
        "--normalise",
        help="With --from: what the source was trained with, where it does not say: imagenet, cifar10, cifar100, none, "
        "half, cifar10-std0.2, or auto, which finds it from the images of data.dataset=NAME.",
        metavar="NAME",
        autocompletion=one_of(*NORMALISATIONS),
    ),
]


@with_mapping_options
@with_foreign_options(normalise=Normalise, kind=AnnKind)
def init(
    words: Words = None,
    from_: From = None,
    arch: Arch = None,
    num_classes: Classes = None,
    *,
    foreign: dict[str, Any],
    teacher: TeacherFile = None,
    run_dir: RunDir = None,
    output: Output = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
    mapping: list[str],
) -> None:
    """Map a ResNet's weights into the student: RUN/init.safetensors and RUN/mapping.json, or -o FILE."""
    console = Console(as_json=as_json, quiet=quiet)
    words = [*(words or []), *mapping]
    if from_ is None:
        refuse_without("--from CKPT", {"arch": arch, "num_classes": num_classes, **foreign})
        run_step(
            "init",
            console,
            words,
            run_dir=run_dir,
            device=device,
            dry_run=dry_run,
            force=force,
            teacher=teacher,
            output=output,
        )
        return
    refuse_with("--from", {"teacher": teacher, "run_dir": run_dir})
    request = (parse_source(from_), words, foreign, device)
    _map(console, *request, arch=arch, num_classes=num_classes, output=output, dry_run=dry_run, force=force)


def _map(
    console: Console,
    source: Source,
    words: list[str],
    foreign: dict[str, Any],
    device: str | None,
    *,
    arch: str | None,
    num_classes: int | None,
    output: Path | None,
    dry_run: bool,
    force: bool,
) -> None:
    """Map a network that is named into a student's first weights, or show what that would do."""
    from idsnn_cli.cli.opening import request_of
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.pipeline.standalone import check_mapping, mapping_workspace, preview_mapping, write_mapping
    from idsnn_cli.pipeline.steps.base import StepsDone

    request = request_of(console, source, "--from", words, foreign, device)
    student, target = check_mapping(request, arch, output, force=force)
    workspace = mapping_workspace(request, student, num_classes)
    workspace.settle_process()
    if dry_run:
        show_plan(console, "init", preview_mapping(workspace, source, target))
    else:
        show_steps(console, "init", StepsDone(None, (write_mapping(workspace, source, target),)))
