"""``idsnn export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idsnn_cli import registry
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Json, Quiet

FORMATS = registry.names("idsnn_cli.export")
Checkpoint = Annotated[Path, typer.Argument(metavar="CKPT", help="A student that idsnn trained.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Write it here.", metavar="FILE")]
Format = Annotated[
    str | None,
    typer.Option("--format", help=f"{', '.join(FORMATS)}; by default what FILE's ending stands for.", metavar="NAME"),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file that is there.")]


def export(
    checkpoint: Checkpoint,
    output: Output,
    format_: Format = None,
    as_json: Json = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Write a student in another form: learnt spike amplitudes folded into its weights (Real Spike) as .safetensors."""
    from idsnn_cli.export.base import FORMATS as PLACE
    from idsnn_cli.export.base import Format as Form
    from idsnn_cli.export.base import export as write

    console = Console(as_json=as_json, quiet=quiet)
    done = write(checkpoint, output, format=format_, force=force)
    console.document({"command": "export", **done.to_dict()})
    console.line(f"{done.file}: {done.architecture}")
    console.line(registry.find(PLACE, done.format, Form).tell(done.facts))
    console.say(f"Next: idsnn eval --checkpoint {output}")
