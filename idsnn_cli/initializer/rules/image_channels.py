"""What the stem reads as each channel of images that have another number of them than the source's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.rulebook import input_rule

if TYPE_CHECKING:
    from idsnn_cli.initializer.selections import Channels


@input_rule("loop", "one channel all together, else the first ones, or all in turn")
def loop(have: int, count: int) -> Channels:
    return mean(have, count) if count == 1 else tuple((channel % have,) for channel in range(count))


@input_rule("mean", "each the mean of all, as for the polarities of events", hint="for events")
def mean(have: int, count: int) -> Channels:
    return (tuple(range(have)),) * count
