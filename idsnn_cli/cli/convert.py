"""``idsnn convert``: one command from a ResNet to a measured student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, OptionA, Output, Quiet, RunDir
from idsnn_cli.outputs import check_output
from idsnn_cli.sources.names import Published, parse_source

Checkpoint = Annotated[
    str, typer.Argument(metavar="CKPT", help="A ResNet: a checkpoint, torchvision:NAME, timm:NAME or hf://USER/REPO.")
]
More = Annotated[list[str] | None, typer.Argument(metavar="[section.key=value ...]", help="Overrides of the recipe.")]
Data = Annotated[
    str, typer.Option("--data", help="The images: cifar10, npz:FILE, folder:DIR, or cifar10:DIR.", metavar="NAME")
]
Timesteps = Annotated[int, typer.Option("--timesteps", "-T", min=1, help="T of the student.", metavar="T")]
Normalise = Annotated[
    str, typer.Option("--normalise", help="What CKPT was trained with; auto finds it from the images.", metavar="NAME")
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
    from idsnn_cli.checkpoint import write_bytes
    from idsnn_cli.cli.opening import device_override, run_of, working
    from idsnn_cli.cli.show import show_plan, show_summary
    from idsnn_cli.pipeline.converting import estimate, recipe_of
    from idsnn_cli.pipeline.preview import preview
    from idsnn_cli.pipeline.run import RunDone, run_all, summary
    from idsnn_cli.pipeline.steps.base import step, steps_of_run

    console = Console(as_json=as_json, quiet=quiet)
    if output is not None:
        check_output(output, force=force)
    source = parse_source(checkpoint)
    name = f"{source.kind}-{source.name}" if isinstance(source, Published) else source.stem
    folder = run_dir or Path("runs") / f"convert-{name}"
    more = [*(words or []), *device_override(device)]
    run = run_of(
        console, recipe_of(checkpoint, data, timesteps, normalise, option_a, more, console.say), folder, force=force
    )
    steps = steps_of_run(run.workspace.recipe)
    if dry_run:
        plan = preview(run, steps)
        takes = estimate(run.workspace)
        show_plan(console, "convert", plan, {"estimate": takes.to_dict()})
        console.line(takes.words())
        return
    with working(console, run, steps):
        console.say(estimate(run.workspace).words())
        results = run_all(run)
        rows = summary(results)
        if output is not None:
            write_bytes(output, step("distill").kept(run).read_bytes())
        console.document({"command": "convert", **RunDone(str(run.path), tuple(results), tuple(rows)).to_dict()})
        if rows:
            show_summary(console, run, rows)
