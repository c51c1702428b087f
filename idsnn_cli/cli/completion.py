"""What a shell offers at the TAB key: names that are read off folders and tables, so that no key waits for torch.

Where nothing is offered the shells complete the names of files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from idsnn_cli import registry, rules
from idsnn_cli.architecture import spiking_names

Offer = str | tuple[str, str]
Offers = Callable[[str], list[Offer]]
# What --normalise may name; the recipe's own check says so too.
NORMALISATIONS = ("auto", "imagenet", "cifar10", "cifar100", "none", "half", "cifar10-std0.2")
DEVICES = ("auto", "cpu", "cuda", "mps")


def one_of(*words: str) -> Offers:
    """Offers these words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def files_of(package: str) -> Offers:
    """Offers what was added to ``package`` by adding a file (:mod:`idsnn_cli.registry`)."""
    return lambda incomplete: [name for name in registry.names(package) if name.startswith(incomplete)]


def several_of(package: str) -> Offers:
    """The same for a list with commas: what comes behind the last one, without what is in the list already."""

    def offer(incomplete: str) -> list[Offer]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            f"{before}{comma}{name}" for name in registry.names(package) if name.startswith(last) and name not in taken
        ]

    return offer


def networks(incomplete: str) -> list[Offer]:
    """The names of students."""
    return [name for name in spiking_names() if name.startswith(incomplete.lower())]


def rule(key: str) -> Offers:
    """What a mapping rule is chosen from by name; of others, a number for one, nothing."""
    return one_of(*(rules.choices(key) if key in rules.OF_RULES else ()))


def recipe_names(incomplete: str) -> list[Offer]:
    """The recipes that ship, with their purposes."""
    from idsnn_cli.recipe import shipped

    return [(each.name, each.purpose) for each in shipped() if each.name.startswith(incomplete)]


def recipe_word(context: typer.Context, incomplete: str) -> list[Offer]:
    """The same for RECIPE and its overrides, as long as no recipe is named; not for ``--from`` or ``--checkpoint``."""
    given: dict[str, Any] = context.params
    named = any("=" not in word for word in given.get("words") or ())
    if named or "=" in incomplete or given.get("from_") or given.get("checkpoint"):
        return []
    return recipe_names(incomplete)
