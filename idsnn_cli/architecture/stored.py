"""Descriptions as checkpoints carry them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsnn_cli.architecture.description import ANN_TRAITS, Architecture
from idsnn_cli.architecture.parts import Neuron
from idsnn_cli.architecture.validation import TUPLES, validate
from idsnn_cli.errors import CheckpointError, UsageError


def read_description(plain: Mapping[str, Any]) -> Architecture:
    """The description that :meth:`Architecture.to_dict` gave.

    Raises :class:`CheckpointError` where a key is missing, unknown or out of range."""
    try:
        values = dict(plain)
        for key in TUPLES:
            if key in values or key not in ANN_TRAITS:
                values[key] = tuple(values[key])
        if "neuron" in values:
            values["neuron"] = Neuron(**values["neuron"])
        architecture = Architecture(**values)
        validate(architecture)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise CheckpointError(
            f"the architecture in the checkpoint's metadata is not one that this version knows: {error}",
            "Upgrade idsnn-cli, or make the checkpoint again with this version.",
        ) from None
    return architecture
