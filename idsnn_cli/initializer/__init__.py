"""The initializer: a source state dict and a target architecture in; a plan and a new state dict out.

Names are handed out on their first use, so that recipes and help can read the rules without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idsnn_cli.initializer.applying import apply
    from idsnn_cli.initializer.blocks import source_block
    from idsnn_cli.initializer.conversion import Conversion, convert
    from idsnn_cli.initializer.correcting import calibrate, reestimate
    from idsnn_cli.initializer.counterparts import make_plan
    from idsnn_cli.initializer.entries import Findings
    from idsnn_cli.initializer.findings import count_values, find, looks_at_images, merges
    from idsnn_cli.initializer.plan import BlockPair, Entry, Plan, random_plan
    from idsnn_cli.initializer.selections import Selection, loop_indices
    from idsnn_cli.initializer.standalone import Initialization, classes_or_source, initialize, open_source
    from idsnn_cli.rules import Rules

_HOMES = {
    "idsnn_cli.initializer.applying": ("apply",),
    "idsnn_cli.initializer.blocks": ("source_block",),
    "idsnn_cli.initializer.conversion": ("Conversion", "convert"),
    "idsnn_cli.initializer.correcting": ("calibrate", "reestimate"),
    "idsnn_cli.initializer.counterparts": ("make_plan",),
    "idsnn_cli.initializer.findings": ("count_values", "find", "looks_at_images", "merges"),
    "idsnn_cli.initializer.plan": ("BlockPair", "Entry", "Plan", "random_plan"),
    "idsnn_cli.initializer.entries": ("Findings",),
    "idsnn_cli.initializer.selections": ("Selection", "loop_indices"),
    "idsnn_cli.initializer.standalone": ("Initialization", "classes_or_source", "initialize", "open_source"),
    "idsnn_cli.rules": ("Rules",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BlockPair",
    "Conversion",
    "Entry",
    "Findings",
    "Initialization",
    "Plan",
    "Rules",
    "Selection",
    "apply",
    "calibrate",
    "classes_or_source",
    "convert",
    "count_values",
    "find",
    "initialize",
    "looks_at_images",
    "loop_indices",
    "make_plan",
    "merges",
    "open_source",
    "random_plan",
    "reestimate",
    "source_block",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
