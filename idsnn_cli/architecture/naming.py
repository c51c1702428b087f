"""The families of networks, and from a name or from a checkpoint's metadata to a description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from idsnn_cli import registry
from idsnn_cli.architecture.protocol import Architecture
from idsnn_cli.errors import CheckpointError, UsageError, did_you_mean

FAMILIES = "idsnn_cli.networks"


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of networks. ``describe(name, num_classes, **options)`` gives the description of one of its names, and
    ``read`` that which plain data, as a checkpoint carries it, describes. A spiking name is the ANN's of its shape with
    ``spiking-`` before it. Both raise :class:`UsageError` for what no network can be built from.
    """

    ann_names: tuple[str, ...]
    spiking_names: tuple[str, ...]
    describe: Callable[..., Architecture]
    read: Callable[[Mapping[str, Any]], Architecture]


@cache
def ann_names() -> tuple[str, ...]:
    """Every name of an ANN that ``--arch`` and recipes may give, family by family."""
    return tuple(name for family in registry.entries(FAMILIES, Family).values() for name in family.ann_names)


@cache
def spiking_names() -> tuple[str, ...]:
    """Every name of a spiking network that ``--arch`` and recipes may give, family by family."""
    return tuple(name for family in registry.entries(FAMILIES, Family).values() for name in family.spiking_names)


def build_description(name: str, num_classes: int, **options: Any) -> Architecture:
    """The description of a named network.

    ``options`` may hold ``width`` (the first stage's channels), ``stem``, ``stem_padding`` and ``shortcut`` where the
    family knows them, ``timesteps``, ``neuron``, ``spiking_block``, ``join``, ``coding``, ``amplitude`` and, unless it
    is none, ``learn_decay`` and ``learn_start`` of a spiking network, and ``activation`` and ``levels`` of an ANN.
    Raises :class:`UsageError` for a name that is not known or options that do not fit it.
    """
    return _family_of(name)[1].describe(_plain(name), num_classes, **options)


def options_like(name: str, known: Architecture) -> dict[str, str]:
    """The options with which the network ``name`` is most like ``known``; none where they are of different families.

    Raises :class:`UsageError` for a name that is not known.
    """
    return known.name_options() if _family_of(name)[0] == known.family else {}


def _family_of(name: str) -> tuple[str, Family]:
    plain = _plain(name)
    for place, family in registry.entries(FAMILIES, Family).items():
        # The family itself says why the ANN of a name has no spiking network.
        if plain in family.spiking_names or plain.removeprefix("spiking-") in family.ann_names:
            return place, family
    known = (*ann_names(), *spiking_names())
    raise UsageError(
        f"'{name}' is not a network that is known.{did_you_mean(name, known)}", f"Give one of {', '.join(known)}."
    )


def _plain(name: str) -> str:
    return name.lower().replace("resnet-", "resnet").replace("vgg-", "vgg")


def read_description(plain: Mapping[str, Any]) -> Architecture:
    """The description that :meth:`Architecture.to_dict` gave.

    Raises :class:`CheckpointError` where a key is missing, unknown or out of range."""
    try:
        values = dict(plain)
        family = registry.find(FAMILIES, values.pop("family"), Family)
        return family.read(values)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise CheckpointError(
            f"the architecture in the checkpoint's metadata is not one that this version knows: {error}",
            "Upgrade idsnn-cli, or make the checkpoint again with this version.",
        ) from None


def validate(architecture: Architecture) -> None:
    """Raise :class:`UsageError` for a description that no network can be built from."""
    architecture.changed()
