"""The same classes in another order: which of a network's rows is which class of the data, and its head put so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.models import Model, Network

Order = tuple[int, ...]
_HEAD = ("head.weight", "head.bias")


def learnt_classes(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that one of our checkpoints says it learnt; empty where it does not say, or not in names."""
    data = metadata.get("data")
    names = data.get("classes") if isinstance(data, dict) else None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def class_order(theirs: Sequence[str], ours: Sequence[str]) -> Order | None:
    """For each of our classes its place among theirs; None where they are not the same names, or stand as ours do.

    Upper and lower case are the same, unless that makes two classes one.
    """
    places = {name.casefold(): place for place, name in enumerate(theirs)}
    wanted = [name.casefold() for name in ours]
    if len(places) != len(theirs) or len(set(wanted)) != len(ours) or places.keys() != set(wanted):
        return None
    order = tuple(places[name] for name in wanted)
    return None if order == tuple(range(len(order))) else order


def differing_class(theirs: Sequence[str], ours: Sequence[str]) -> tuple[int, str, str] | None:
    """The first place at which two lists of classes differ, and the two names there; None where none does, or one list
    has numbers alone, which stand where a data set names none.
    """
    if any(all(name.isdecimal() for name in names) for names in (theirs, ours)):
        return None
    pairs = enumerate(zip(theirs, ours, strict=False))
    return next(((place, a, b) for place, (a, b) in pairs if a.casefold() != b.casefold()), None)


@torch.no_grad()
def reorder_head(model: Model, order: Order | None) -> Model:
    """``model`` with the rows of its linear layer in ``order``, in place; as it is for None."""
    if order is not None:
        for values in (model.head.weight, model.head.bias):
            values.copy_(values[torch.tensor(order, device=values.device)])
    return model


def reordered(network: Network, order: Order | None) -> Network:
    """``network`` whose linear layer is read with its rows in ``order``; itself for None."""
    if order is None:
        return network
    keys = {network.names[name] for name in _HEAD if name in network.names}
    rows = torch.tensor(order)

    def read(key: str) -> Tensor:
        value = network.read(key)
        return value.index_select(0, rows.to(value.device)) if key in keys else value

    return replace(network, read=read)
