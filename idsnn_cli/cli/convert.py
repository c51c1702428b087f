"""``idsnn convert``: one command from a ResNet to a measured student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from idsnn_cli.cli.completion import NORMALISATIONS, files_of, one_of
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, OptionA, Output, Quiet, RunDir
from idsnn_cli.outputs import check_output

Checkpoint = Annotated[
    str, typer.Argument(metavar="CKPT", help="A ResNet: a checkpoint, torchvision:NAME, timm:NAME or hf://USER/REPO.")
]
More = Annotated[list[str] | None, typer.Argument(metavar="[section.key=value ...]", help="Overrides of the recipe.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="The images: cifar10, npz:FILE, folder:DIR, or cifar10:DIR.",
        metavar="NAME",
        autocompletion=files_of("idsnn_cli.data.sets"),
    ),
]
Timesteps = Annotated[int, typer.Option("--timesteps", "-T", min=1, help="T of the student.", metavar="T")]
Normalise = Annotated[
    str,
    typer.Option(
        "--normalise",
        help="What CKPT was trained with; auto finds it from the images.",
        metavar="NAME",
        autocompletion=one_of(*NORMALISATIONS),
    ),
]


def convert(
    checkpoint: Checkpoint,
    data: Data,
    words: More = None,
    timesteps: Timesteps = 4,
    normalise: Normalise = "auto",
    option_a: OptionA = None,
    run_dir: RunDir = None,
    output: Output = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """From a ResNet to a Spiking ResNet of its shape: quantise it to T levels, make it spike, train, measure."""
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.cli.show import show_plan, show_summary
    from idsnn_cli.pipeline import calls
    from idsnn_cli.pipeline.converting import estimate
    from idsnn_cli.pipeline.preview import preview
    from idsnn_cli.pipeline.run_directory import RESOLVED
    from idsnn_cli.pipeline.steps.base import steps_of_run

    console = Console(as_json=as_json, quiet=quiet)
    asked: dict[str, Any] = {
        "timesteps": timesteps,
        "normalise": normalise,
        "option_a": option_a,
        "overrides": words or [],
        "run_dir": run_dir,
        "device": device,
        "force": force,
        "events": TrainingDisplay(console),
    }
    if dry_run:
        if output is not None:
            check_output(output, force=force, reads=[checkpoint])
        run = calls.open_conversion(checkpoint, data, **asked)
        if output is not None:
            calls.require_elsewhere(run, output)
        plan = preview(run, steps_of_run(run.workspace.recipe))
        takes = estimate(run.workspace)
        show_plan(console, "convert", plan, {"estimate": takes.to_dict()})
        console.line(takes.words())
        return
    done = calls.convert(checkpoint, data, output=output, **asked)
    console.document({"command": "convert", **done.to_dict()})
    if done.summary:
        folder = Path(str(done.run_dir))
        show_summary(console, calls.open_run(folder / RESOLVED, run_dir=folder), list(done.summary))
