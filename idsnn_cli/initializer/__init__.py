"""The initializer: a source state dict and a target architecture in; a plan and a new state dict out."""

from idsnn_cli.initializer.apply import apply
from idsnn_cli.initializer.blocks import source_block
from idsnn_cli.initializer.calibrating import calibrate
from idsnn_cli.initializer.converting import Conversion, convert
from idsnn_cli.initializer.facts import Findings
from idsnn_cli.initializer.findings import find, looks_at_images
from idsnn_cli.initializer.plan import BlockPair, Entry, Plan, random_plan
from idsnn_cli.initializer.planning import count_values, make_plan, merges
from idsnn_cli.initializer.reestimate import reestimate
from idsnn_cli.initializer.selections import Selection, loop_indices
from idsnn_cli.initializer.spaces import Spaces, channel_spaces
from idsnn_cli.initializer.standalone import Initialization, classes_or_source, initialize, open_source
from idsnn_cli.rules import Rules

__all__ = [
    "BlockPair",
    "Conversion",
    "Entry",
    "Findings",
    "Initialization",
    "Plan",
    "Rules",
    "Selection",
    "Spaces",
    "apply",
    "calibrate",
    "channel_spaces",
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
