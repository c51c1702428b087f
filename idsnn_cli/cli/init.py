"""``idsnn init``, with a recipe or on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Output, Quiet, RunDir, TeacherFile, Words

Source = Annotated[
    Path | None,
    typer.Option("--from", help="Start from this ResNet checkpoint; no recipe is needed then.", metavar="CKPT"),
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
        help="With --from: what the source was trained with, where it does not say: imagenet, cifar10, cifar100, none.",
        metavar="NAME",
    ),
]


def init(
    words: Words = None,
    source: Source = None,
    arch: Arch = None,
    num_classes: Classes = None,
    normalise: Normalise = None,
    teacher: TeacherFile = None,
    run_dir: RunDir = None,
    output: Output = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Map a ResNet's weights into the student: RUN/init.safetensors and RUN/mapping.json, or -o FILE."""
    from idsnn_cli.cli.session import make_session, working
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.cli.standalone import standalone_session
    from idsnn_cli.pipeline import init_step, preview, write_init

    console = Console(as_json=as_json, quiet=quiet)
    if source is not None:
        session, output = standalone_session(
            console,
            words,
            source=source,
            arch=arch,
            num_classes=num_classes,
            normalise=normalise,
            output=output,
            device=device,
            force=force,
            conflicting={"--teacher": teacher, "--run-dir": run_dir},
        )
        teacher = source
    else:
        _only_with_from({"--arch": arch, "--num-classes": num_classes, "--normalise": normalise})
        session = make_session(console, words, run_dir=run_dir, device=device, force=force)
    given = {k: v for k, v in {"teacher": teacher, "output": output}.items() if v}
    if dry_run:
        show_plan(console, "init", preview(session, ["init"], given))
        return
    if source is not None and output is not None:
        show_steps(console, "init", session, [write_init(session, source, output)])
        return
    with working(console, session, ["init"], given):
        show_steps(console, "init", session, [init_step(session, source=teacher, output=output)])


def _only_with_from(options: dict[str, object]) -> None:
    from idsnn_cli.errors import UsageError

    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} goes with --from CKPT", "With a recipe, set student.arch and its like there.")
