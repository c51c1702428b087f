"""``idsnn run``."""

from __future__ import annotations

from typing import Annotated

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.jobs import Shared
from idsnn_cli.cli.launchers import LAUNCHERS
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Quiet, RunDir, Words
from idsnn_cli.registry import names

Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        help="A run for each seed of the student, in DIR/seed=0 and so on. The images that data.subset and "
        "data.validation draw and the teacher keep the recipe's own seed, so one teacher serves them all; "
        "--vary seed=0,1,2 draws everything anew.",
        metavar="0,1,2",
    ),
]
Vary = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        help="A run for each value, each with every seed and every value of another --vary; a teacher, a network of "
        "pretrain or a baseline that the settings do not touch is trained once.",
        metavar="section.key=value,value",
    ),
]

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Do the runs of a grid by so many processes, each with its part of the cores or a GPU of its own; with "
        "--launcher by so many of its jobs, one for each run where it is not given.",
        metavar="N",
    ),
]
Share = Annotated[
    bool,
    typer.Option(
        "--share",
        help="Do those runs of a grid that no other process works on: the same command may be started several times, "
        "also on machines that share DIR.",
    ),
]
NoWait = Annotated[
    bool,
    typer.Option("--no-wait", help="With --share: end when other processes work on all runs that are left."),
]
Launched = Annotated[
    str | None,
    typer.Option(
        "--launcher",
        help=f"Do the runs of a grid by jobs of a scheduler: {', '.join(names(LAUNCHERS))}.",
        metavar="NAME",
    ),
]
Resources = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        help="What --launcher gives each job: time=MINUTES, partition, gpus, cpus, mem or any option of sbatch for "
        "slurm; cpus, gpus, address for ray.",
        metavar="KEY=VALUE",
    ),
]


def run(
    words: Words = None,
    seeds: Seeds = None,
    vary: Vary = None,
    jobs: Jobs = None,
    share: Share = False,
    no_wait: NoWait = False,
    launcher: Launched = None,
    resource: Resources = None,
    run_dir: RunDir = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Teacher, init, distill and eval in order, going on where a killed run stopped; or a grid of such runs."""
    from idsnn_cli.cli.opening import open_run
    from idsnn_cli.cli.show import show_plan, show_summary
    from idsnn_cli.pipeline.calls import working
    from idsnn_cli.pipeline.preview import preview
    from idsnn_cli.pipeline.run import RunDone, run_all, summary
    from idsnn_cli.pipeline.steps.base import steps_of_run

    console = Console(as_json=as_json, quiet=quiet)
    shared = Shared(jobs, launcher, tuple(resource or ()), share, not no_wait)
    shared.require(seeds, vary or [], force)
    if seeds is not None or vary:
        from idsnn_cli.cli.grid import run_grid

        run_grid(
            console,
            words,
            seeds,
            vary or [],
            run_dir=run_dir,
            device=device,
            force=force,
            dry_run=dry_run,
            shared=shared,
        )
        return
    opened = open_run(console, words, run_dir=run_dir, device=device, force=force)
    steps = steps_of_run(opened.workspace.recipe)
    if dry_run:
        show_plan(console, "run", preview(opened, steps))
        return
    with working(opened, steps):
        results = run_all(opened)
        rows = summary(results)
        done = RunDone(str(opened.path), tuple(results), tuple(rows))
        console.document({"command": "run", **done.to_dict()})
        if rows:
            show_summary(console, opened, rows)
