"""``idsnn recipes``: list, show and copy the recipes that ship."""

from __future__ import annotations

from typing import Annotated

import typer

from idsnn_cli.cli.completion import recipe_names
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Json, Quiet

recipes = typer.Typer(invoke_without_command=True, help="List the recipes that ship; show or copy one.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A recipe that ships.", autocompletion=recipe_names)]


@recipes.callback()
def _list(context: typer.Context, as_json: Json = False, quiet: Quiet = False) -> None:
    """List the recipes that ship; show or copy one."""
    # Options may stand before the name of a subcommand too.
    context.obj = (as_json, quiet)
    if context.invoked_subcommand is not None:
        return
    from idsnn_cli.recipe import shipped

    console = Console(as_json=as_json, quiet=quiet)
    found = shipped()
    listed = [{"name": each.name, "purpose": each.purpose, "command": each.command} for each in found]
    console.document({"command": "recipes", "recipes": listed})
    console.table(["name", "purpose"], [[each["name"], each["purpose"]] for each in listed])
    console.say("Next: idsnn run NAME, idsnn recipes show NAME, or idsnn recipes cp NAME DEST to change a copy.")


@recipes.command("show")
def show(context: typer.Context, name: Name, as_json: Json = False, quiet: Quiet = False) -> None:
    """Print a recipe as its file has it."""
    from idsnn_cli.recipe import find

    console = _console(context, as_json, quiet)
    text = find(name).read_text(encoding="utf-8")
    console.document({"command": "recipes show", "name": name, "text": text})
    console.line(text.removesuffix("\n"))


@recipes.command("cp")
def copy(
    context: typer.Context,
    name: Name,
    destination: Annotated[str, typer.Argument(metavar="DEST", help="The file to write, or a folder for it.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a recipe to DEST, to be changed there; nothing is overwritten."""
    from idsnn_cli.recipe import copy_to

    console = _console(context, as_json, quiet)
    written = copy_to(name, destination)
    console.document({"command": "recipes cp", "name": name, "path": str(written)})
    console.line(f"Copied {name} to {written}.")
    word = str(written) if "/" in str(written) or written.suffix in (".yaml", ".yml") else f"./{written}"
    console.say(f"Next: idsnn run {word} --dry-run")


def _console(context: typer.Context, as_json: bool, quiet: bool) -> Console:
    before = context.obj or (False, False)
    return Console(as_json=as_json or before[0], quiet=quiet or before[1])
