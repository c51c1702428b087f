"""``idsnn init``, with a recipe or on its own."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.mapping_options import with_mapping_options
from idsnn_cli.cli.options import (
    AllowUnused,
    Device,
    DryRun,
    Force,
    Json,
    Output,
    Quiet,
    RunDir,
    Scheme,
    TeacherFile,
    Weights,
    Words,
    foreign_options,
    option_name,
)
from idsnn_cli.published import Source, parse_source

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Start from this ResNet: a checkpoint, or torchvision:NAME. No recipe is needed then.",
        metavar="CKPT",
    ),
]
Arch = Annotated[
    str | None, typer.Option("--arch", help="With --from: the student, spiking-resnet18 for one.", metavar="NAME")
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
    ),
]


@with_mapping_options
def init(
    words: Words = None,
    from_: From = None,
    arch: Arch = None,
    num_classes: Classes = None,
    normalise: Normalise = None,
    weights: Weights = None,
    allow_unused: AllowUnused = False,
    scheme: Scheme = None,
    teacher: TeacherFile = None,
    run_dir: RunDir = None,
    output: Output = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
    *,
    mapping: list[str],
) -> None:
    """Map a ResNet's weights into the student: RUN/init.safetensors and RUN/mapping.json, or -o FILE."""
    from idsnn_cli.cli.session import make_session, working
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.cli.standalone import standalone_session
    from idsnn_cli.pipeline import init_step, preview, write_init

    console = Console(as_json=as_json, quiet=quiet)
    foreign = foreign_options(normalise, weights, allow_unused, scheme)
    source: Source | None = None if from_ is None else parse_source(from_)
    words = [*(words or []), *mapping]
    origin: Source | None = teacher
    if source is not None:
        session, output = standalone_session(
            console,
            words,
            source=source,
            arch=arch,
            num_classes=num_classes,
            foreign=foreign,
            output=output,
            device=device,
            force=force,
            conflicting={"--teacher": teacher, "--run-dir": run_dir},
        )
        origin = source
    else:
        _only_with_from({"--arch": arch, "--num-classes": num_classes})
        _only_with_from({option_name(key): value for key, value in foreign.items()})
        session = make_session(console, words, run_dir=run_dir, device=device, force=force)
    given: dict[str, Any] = {k: v for k, v in {"teacher": origin, "output": output}.items() if v}
    if dry_run:
        show_plan(console, "init", preview(session, ["init"], given))
        return
    if source is not None and output is not None:
        show_steps(console, "init", session, [write_init(session, source, output)])
        return
    with working(console, session, ["init"], given):
        show_steps(console, "init", session, [init_step(session, source=origin, output=output)])


def _only_with_from(options: dict[str, object]) -> None:
    from idsnn_cli.errors import UsageError

    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} goes with --from CKPT", "With a recipe, set student.arch and its like there.")
