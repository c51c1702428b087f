"""``idsnn export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Json, Quiet

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help="A student that was trained with student.amplitude=channel.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Write the folded network here.", metavar="FILE")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file that is there.")]


def export(
    checkpoint: Checkpoint, output: Output, as_json: Json = False, quiet: Quiet = False, force: Force = False
) -> None:
    """Fold a student's learnt spike amplitudes into its weights (Real Spike): binary spikes, the same outputs."""
    from idsnn_cli.pipeline.exporting import export as fold

    console = Console(as_json=as_json, quiet=quiet)
    document = fold(checkpoint, output, force=force)
    console.document({"command": "export", **document})
    facts = document["folded"]
    console.line(f"{document['file']}: {document['architecture']}")
    console.line(f"{facts['amplitudes']:,} amplitudes of {facts['smallest']:.4g} to {facts['largest']:.4g} are folded.")
    console.say(f"Next: idsnn eval --checkpoint {output}")
