"""Where in the network the learnt decays of a foreign file stand, and their values as ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from idsnn_cli.architecture import DECAY_LOGIT
from idsnn_cli.families.surroundings import without_transparent

# SpikingJelly's: decay = 1 - sigmoid(w) = sigmoid(-w).
_OTHERS = ".w"
_PLACE = re.compile(r"(?:(layer\d+\.\d+)\.)?(?:sn(\d+)|(downsample\S*))\.w")
Read = Callable[[str], Any]


def place_decays(keys: Iterable[str], names: Mapping[str, str], root: str) -> dict[str, str]:
    """Canonical name -> key of the learnt decays ``keys`` of a network under ``root``; one without a place here goes by
    its key.

    ``names`` leads from the canonical names of all other tensors to their keys: a neuron belongs to the block in whose
    module its own is.
    """
    blocks = {
        ".".join(_inside(key, root).split(".")[:2]): ".".join(name.split(".")[:3])
        for name, key in names.items()
        if name.startswith("stages.") and ".shortcut." not in name
    }
    return {_place(_inside(key, root), blocks) or key: key for key in keys}


def _place(plain: str, blocks: Mapping[str, str]) -> str | None:
    if plain.endswith(f".{DECAY_LOGIT}"):
        return plain
    found = _PLACE.fullmatch(plain)
    if found is None:
        return None
    module, number, projection = found.groups()
    if module is None:
        return f"stem.act.{DECAY_LOGIT}" if number == "1" else None
    if module not in blocks:
        return None
    act = "shortcut_act" if projection else f"act{int(number) - 1}"
    return f"{blocks[module]}.{act}.{DECAY_LOGIT}"


def _inside(key: str, root: str) -> str:
    return without_transparent(key).removeprefix(root)


def as_ours(read: Read, decays: Mapping[str, str]) -> Read:
    """``read`` of tensors that gives of each of ``decays`` the logit, whatever the file has."""
    others = {key for key in decays.values() if key.endswith(_OTHERS)}
    if not others:
        return read

    def ours(key: str) -> Any:
        value = read(key)
        # What is no number to compute with is refused by who asks for it.
        return -value if key in others and value.is_floating_point() else value

    return ours
