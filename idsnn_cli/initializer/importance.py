"""How much each channel counts, by the weights alone: for the rule ``importance``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import MappingError
from idsnn_cli.initializer.spaces import channel_spaces


def channel_scores(
    architecture: Architecture, names: Mapping[str, str], read: Callable[[str], Tensor]
) -> dict[str, list[float]]:
    """For each channel space, every channel's sum of |gamma| over the BatchNorms of that space.

    ``names`` leads from canonical names to the source's keys and ``read`` gives the tensor of such a key; only gammas
    are read, and those that the source lacks are left out. A space without any is absent. Raises
    :class:`MappingError` for NaN or infinite values.
    """
    spaces = channel_spaces(architecture)
    sums: dict[str, Tensor] = {}
    for norm, space in spaces.norms.items():
        key = names.get(f"{norm}.weight")
        if key is None:
            continue
        # Some libraries store vectors with extra axes of one.
        gamma = read(key).reshape(spaces.sizes[space]).double().cpu().abs()
        if not torch.isfinite(gamma).all():
            raise MappingError(
                f"{key} holds NaN or infinite values, so its channels cannot be ranked",
                "Use another checkpoint of the source, or another rule than channels: importance.",
            )
        sums[space] = sums[space] + gamma if space in sums else gamma
    return {space: total.tolist() for space, total in sums.items()}
