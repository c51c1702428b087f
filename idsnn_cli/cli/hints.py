"""What a wrong word of the command line was probably meant to be: a command, or a key of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from idsnn_cli.errors import UsageError
from idsnn_cli.text import visible

# What typer raises for words that it cannot parse; it names none of the classes above this one itself.
WrongWords: type[Exception] = typer.BadParameter.__mro__[1]
# What other tools call what is done here by another name.
_MEANT = {
    "train": "`idsnn teacher`, `pretrain` and `distill` train one network each, and `idsnn run` does all of it.",
    "fit": "`idsnn teacher`, `pretrain` and `distill` train one network each, and `idsnn run` does all of it.",
    "finetune": "`idsnn distill` trains a student from its first weights, with `distill.alpha=0` without its teacher.",
    "convert": "`idsnn init --convert weight-normalisation` makes an ANN spike, `idsnn export` writes another form.",
    "test": "`idsnn eval` measures networks.",
    "validate": "`idsnn eval` measures networks; `idsnn run RECIPE --dry-run` checks a recipe and does nothing.",
    "measure": "`idsnn eval` measures networks.",
    "compare": "`idsnn inspect A B` compares two checkpoints, `idsnn report RUN RUN` runs.",
    "show": "`idsnn inspect` shows a checkpoint, `idsnn report` runs, `idsnn recipes show NAME` a recipe.",
    "plot": "`idsnn report --html FILE` draws runs, `idsnn eval --report DIR` what was measured.",
    "upload": "`idsnn push RUN hf://USER/REPO` publishes a network on the hub.",
    "publish": "`idsnn push RUN hf://USER/REPO` publishes a network on the hub.",
    "download": "hf://USER/REPO, timm:NAME and torchvision:NAME stand wherever a source is named.",
    "list": "`idsnn recipes` lists the recipes that ship.",
}


class Commands(TyperGroup):
    """The commands, with an answer to words that belong elsewhere; typer answers what is misspelt."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and args[0].lower() in _MEANT:
            raise UsageError(f"there is no command '{args[0]}'", _MEANT[args[0].lower()])
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _shown():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _shown():
                return super().invoke(ctx)
        except WrongWords as wrong:
            option = getattr(wrong, "option_name", None)
            homes = [] if option is None else recipe_keys(option)
            if not homes:
                raise
            words = " or ".join(f"{home}=VALUE" for home in homes)
            raise UsageError(
                f"there is no option {option}",
                f"It is set in the recipe; behind the recipe's name a word changes it: {words}.",
            ) from None


@contextmanager
def _shown() -> Iterator[None]:
    """Let nothing in a message of typer's, which quotes the words it was given, be what a terminal would obey."""
    try:
        yield
    except WrongWords as wrong:
        if hasattr(wrong, "message"):
            wrong.message = visible(str(wrong.message))
        raise


def recipe_keys(option: str) -> list[str]:
    """The keys of a recipe, dotted, that an option's name may stand for: ``--lr`` for ``teacher.lr`` and others."""
    from idsnn_cli.recipe.fields import meant, owners

    key = option.lstrip("-").replace("-", "_")
    return [".".join((*home, each)) for each in (key, *meant(key)) for home in owners(each)]
