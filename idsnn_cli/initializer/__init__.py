"""The initializer: a source state dict and a target architecture in; a plan and a new state dict out."""

from idsnn_cli.initializer.apply import apply
from idsnn_cli.initializer.plan import BlockPair, Entry, Plan, make_plan, random_plan
from idsnn_cli.initializer.reestimate import reestimate
from idsnn_cli.initializer.rules import Rules, loop_indices, source_block
from idsnn_cli.initializer.standalone import Initialization, classes_or_source, initialize, open_source

__all__ = [
    "BlockPair",
    "Entry",
    "Initialization",
    "Plan",
    "Rules",
    "apply",
    "classes_or_source",
    "initialize",
    "loop_indices",
    "make_plan",
    "open_source",
    "random_plan",
    "reestimate",
    "source_block",
]
