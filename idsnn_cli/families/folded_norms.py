"""Networks whose BatchNorms were folded into their convolutions, which then have a bias each and no norm behind them.

The same network has a BatchNorm behind each that changes nothing but adds the bias: it takes no mean away, divides by
one and multiplies by one. Its tensors get the names that the file's own scheme has for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.anyone import recognise
from idsnn_cli.families.choosing import prefix_of
from idsnn_cli.families.completing import Alike
from idsnn_cli.families.matching import Match, match, source_name
from idsnn_cli.families.reading import Reading, Recognised
from idsnn_cli.families.schemes import SCHEMES
from idsnn_cli.families.surroundings import roots

Shape = tuple[int, ...]
LEAVES = ("weight", "bias", "running_mean", "running_var")
_MOST_TENSORS = 5_000
_CONV = re.compile(r"(.*\b)conv(\d*)\.weight")


@dataclass(frozen=True, slots=True)
class Unfolded:
    """The network; ``made`` leads from the norms' tensors, which the file lacks, to which of ``LEAVES`` each is and the
    key of the convolution's bias.
    """

    found: Recognised
    made: Mapping[str, tuple[str, str]]


def recognise_unfolded(shapes: Mapping[str, Shape], reading: Reading, alike: Alike) -> Unfolded | None:
    """The network of ``shapes`` with a BatchNorm behind each convolution; None where no table explains it so."""
    if len(shapes) > _MOST_TENSORS or any("running_var" in key or "moving_variance" in key for key in shapes):
        return None
    for near in _matches(shapes, reading):
        made = _norms_of(near)
        if not made:
            continue
        biases = {bias for _, bias in made.values()}
        whole = {key: shape for key, shape in shapes.items() if key not in biases}
        whole |= {key: shapes[bias] for key, (_, bias) in made.items()}
        try:
            found = recognise(whole, reading, alike)
        except FamilyError:
            continue
        # A norm before a convolution, or one that is left over, would be another function.
        if all(conv.norm and not conv.norm_first for conv in found.architecture.convolutions()) and not (
            made.keys() & found.dropped.keys()
        ):
            words = (
                f"its {len(biases)} convolutions have biases, and their BatchNorms are folded in or never were there: "
                "read with BatchNorms that add the bias alone"
            )
            return Unfolded(replace(found, notes=(*found.notes, words)), made)
    return None


def _matches(shapes: Mapping[str, Shape], reading: Reading) -> Iterator[Match]:
    """What each table makes of each sub-tree in which it lacks nothing but convolutions' biases."""
    own = reading.scheme
    schemes = SCHEMES if own is None else (own, *(own.over(scheme) for scheme in SCHEMES))
    inside = "" if reading.root is None else prefix_of(reading.root)
    for root, keys in roots(shapes).items():
        if not root.startswith(inside):
            continue
        for scheme in schemes:
            found = match(scheme, root, keys)
            kernels = {key.removesuffix("weight") for name, key in found.used.items() if _CONV.fullmatch(name)}
            rest = {key.removesuffix("bias") for key in found.unexplained}
            if found.has_blocks and rest == kernels:
                yield found


def _norms_of(found: Match) -> dict[str, tuple[str, str]]:
    """Each tensor of a norm that the file lacks: its key, which of ``LEAVES`` it is and the key of the bias."""
    made: dict[str, tuple[str, str]] = {}
    for name, key in found.used.items():
        conv = _CONV.fullmatch(name)
        if conv is None:
            continue
        for leaf in LEAVES:
            norm = source_name(found.scheme, f"{conv[1]}norm{conv[2]}.{leaf}")
            if norm is None or norm in made:
                return {}
            made[found.root + norm] = leaf, f"{found.root}{key.removesuffix('weight')}bias"
    return made
