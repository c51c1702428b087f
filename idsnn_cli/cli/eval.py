"""``idsnn eval``."""

from __future__ import annotations

from typing import Annotated

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import (
    AllowUnused,
    Device,
    DryRun,
    Json,
    Output,
    Quiet,
    RunDir,
    Scheme,
    Stride,
    StudentFile,
    Weights,
    Words,
    foreign_options,
    option_name,
)
from idsnn_cli.published import parse_source

Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        help="Measure this network (a file, or torchvision:NAME); its own recipe names the data.",
        metavar="FILE",
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data", help="With --checkpoint: cifar10, cifar100, digits, npz:FILE or folder:DIR.", metavar="NAME[:PATH]"
    ),
]
Normalise = Annotated[
    str | None,
    typer.Option(
        "--normalise",
        help="With a foreign --checkpoint: what it was trained with: imagenet, cifar10, cifar100, none, half, "
        "cifar10-std0.2, or auto, which finds it from training images.",
        metavar="NAME",
    ),
]


def evaluate(
    words: Words = None,
    checkpoint: Checkpoint = None,
    data: DataName = None,
    normalise: Normalise = None,
    bottleneck_stride: Stride = None,
    weights: Weights = None,
    allow_unused: AllowUnused = False,
    scheme: Scheme = None,
    student: StudentFile = None,
    run_dir: RunDir = None,
    output: Output = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Measure a run's networks into RUN/eval.json, or any checkpoint of ours or of others."""
    from idsnn_cli.cli.session import make_session, working
    from idsnn_cli.cli.show import show_evaluation, show_plan, show_steps
    from idsnn_cli.errors import UsageError
    from idsnn_cli.pipeline import eval_step, evaluate_networks, preview

    console = Console(as_json=as_json, quiet=quiet)
    foreign = foreign_options(normalise, weights, allow_unused, scheme, bottleneck_stride)
    if checkpoint is None:
        options = {"--data": data} | {option_name(key): value for key, value in foreign.items()}
        for name, value in options.items():
            if value is not None:
                raise UsageError(f"{name} goes with --checkpoint FILE", "With a recipe, set it there.")
        session = make_session(console, words, run_dir=run_dir, device=device)
        given = {k: v for k, v in {"student": student, "output": output}.items() if v}
        if dry_run:
            show_plan(console, "eval", preview(session, ["eval"], given))
            return
        with working(console, session, ["eval"], given):
            show_steps(console, "eval", session, [eval_step(session, student=student, output=output)])
        return
    from idsnn_cli.cli.checkpoint import checkpoint_session
    from idsnn_cli.pipeline import write_document

    for option, path in {"--student": student, "--run-dir": run_dir}.items():
        if path is not None:
            raise UsageError(f"{option} does not go with --checkpoint", "Leave it out.")
    source = parse_source(checkpoint)
    session = checkpoint_session(console, words, source, data=data, foreign=foreign, device=device)
    if dry_run:
        named: dict[str, object] = {"checkpoint": source, "output": output}
        show_plan(console, "eval", preview(session, ["eval"], {k: v for k, v in named.items() if v}))
        return
    document = evaluate_networks(session, {source.name: source})
    if output is not None:
        write_document(output, document)
    console.document({"command": "eval", **document})
    show_evaluation(console, document)
