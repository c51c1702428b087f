"""``idsnn export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idsnn_cli import registry
from idsnn_cli.cli.completion import one_of
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Json, Quiet
from idsnn_cli.errors import UsageError
from idsnn_cli.sources.names import parse_source

FORMATS = registry.names("idsnn_cli.export")
DATA_SETS = registry.names("idsnn_cli.data.sets")
Checkpoint = Annotated[
    str, typer.Argument(metavar="CKPT", help="A student that idsnn trained: a file, or hf://USER/REPO.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Write it here.", metavar="FILE")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help=f"{', '.join(FORMATS)}; by default what FILE's ending stands for.",
        metavar="NAME",
        autocompletion=one_of(*FORMATS),
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        help="For formats that depend on it: pixels of a side, or HEIGHTxWIDTH; by default those of the data.",
        metavar="N",
    ),
]
Verify = Annotated[
    int | None,
    typer.Option("--verify", help="Run the written file on N test images, and compare it.", metavar="N", min=1),
]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        help=f"The images: {', '.join(DATA_SETS)}; NAME:PATH says where. By default those of the student's recipe.",
        metavar="NAME[:PATH]",
        autocompletion=one_of(*DATA_SETS),
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file that is there.")]


def export(
    checkpoint: Checkpoint,
    output: Output,
    format_: Format = None,
    image_size: ImageSize = None,
    verify: Verify = None,
    data: DataName = None,
    as_json: Json = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Write a student in another form: for simulators and chips, for other programs, or with its amplitudes folded.

    With --verify, exit 1 where the written file chooses another class for an image.
    """
    size = None if image_size is None else _size(image_size)
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.export.base import FORMATS as PLACE
    from idsnn_cli.export.base import Format as Form
    from idsnn_cli.pipeline.exporting import export_checkpoint

    console = Console(as_json=as_json, quiet=quiet)
    done = export_checkpoint(
        parse_source(checkpoint),
        output,
        format=format_,
        force=force,
        image_size=size,
        verify=verify,
        data=data,
        events=TrainingDisplay(console),
    )
    form = registry.find(PLACE, done.format, Form)
    console.document({"command": "export", **done.to_dict()})
    console.line(f"{done.file}: {done.architecture}")
    console.line(form.tell(done.facts))
    for each in done.verified or ():
        console.line(each.words())
    others = [each.reader for each in done.verified or () if not each.agrees]
    if others:
        console.say(f"{done.file} chooses other classes than the student for some images, run by {', '.join(others)}")
        raise typer.Exit(1)
    following = form.next(output)
    if following is not None:
        console.say(f"Next: {following}")


def _size(text: str) -> tuple[int, int]:
    """(height, width) of ``32`` or ``224x192``. Raises :class:`UsageError`."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and 0 < int(side) < 2**16 for side in sides):
        raise UsageError(f"--image-size is '{text}'", "Give pixels: 32, or HEIGHTxWIDTH, for example 224x192.")
    return int(sides[0]), int(sides[-1])
