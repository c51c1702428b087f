"""``idsnn push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Json, Quiet

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, or a checkpoint that idsnn wrote.")]
Target = Annotated[str, typer.Argument(metavar="hf://USER/REPO", help="The repository; made where it is not there.")]
Network = Annotated[
    str | None,
    typer.Option("--network", help="Of a run: student (the default), teacher, baseline or pretrain.", metavar="NAME"),
]
License = Annotated[
    str | None, typer.Option("--license", help="The card's licence, as the hub names them: mit.", metavar="NAME")
]
Private = Annotated[bool, typer.Option("--private", help="Where the repository is made, only for your account.")]
Message = Annotated[str | None, typer.Option("--message", help="The commit's message.", metavar="TEXT")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the card and what would be sent; ask and send nothing.")]


def push(
    run: Run,
    target: Target,
    network: Network = None,
    license_: License = None,
    private: Private = False,
    message: Message = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Publish a network on the Hugging Face hub, with its recipe and a card made of the run, in one commit."""
    from idsnn_cli.pipeline.pushing import pack
    from idsnn_cli.pipeline.pushing import push as send

    console = Console(as_json=as_json, quiet=quiet)
    parcel = pack(run, target, network=network, licence=license_, message=message, private=private, say=console.say)
    done = parcel.described if dry_run else send(parcel)
    console.document({"command": "push", **done.to_dict()})
    if dry_run:
        console.line(done.card)
        console.say(f"Would send to {done.repository}, in one commit: {done.listed()}. Nothing was sent.")
        return
    console.line(f"{done.repository}: {done.listed()}, commit {done.commit}")
    if not done.changed:
        console.line("The same files were there already.")
    elif done.replaced:
        console.line(f"replaced: {', '.join(done.replaced)} (the hub keeps the earlier commits)")
    console.say(f"Next: idsnn inspect {done.repository}")
