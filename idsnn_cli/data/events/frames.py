"""Recordings as frames: how many events each pixel had, by polarity, in each of T parts of the recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from idsnn_cli.data.events.recordings import Recording, Sensor

MOST = 255
"""What a pixel of a frame can hold, a byte."""


@dataclass(frozen=True, slots=True)
class Binning:
    """``frames`` are T; a pixel of a frame counts the events of ``side`` by ``side`` pixels of the sensor, whose
    (height, width) it divides.

    ``slicing`` ``count`` gives frame floor(i T / N) the event i of N, so that the events of two frames differ by one at
    most; ``time`` gives an event at t frame floor((t - t0) T / (t1 - t0 + 1)), t0 and t1 the first's and the last's.
    """

    frames: int
    sensor: Sensor
    side: int
    slicing: Literal["count", "time"]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, 2, H, W) of a recording."""
        return (self.frames, 2, self.sensor[0] // self.side, self.sensor[1] // self.side)

    def words(self) -> str:
        """All that decides about the bytes, for the name of a memory map."""
        return f"{self.frames} {self.sensor[0]} {self.sensor[1]} {self.side} {self.slicing}"


def bin_events(found: Recording, binning: Binning) -> tuple[np.ndarray[Any, Any], int]:
    """uint8 (T, 2, H, W), channel 0 of darker and 1 of brighter, and how many events were above :data:`MOST`.

    Every event is in one frame. tonic's own binning leaves out those behind the last whole part of the recording.
    """
    frames, _, height, width = binning.shape
    if binning.slicing == "time":
        place = (found.t - found.t[0]) * frames // (found.t[-1] - found.t[0] + 1)
    else:
        place = np.arange(len(found)) * frames // len(found)
    for axis, side in ((found.p, 2), (found.y // binning.side, height), (found.x // binning.side, width)):
        place = place * side + axis
    counts = np.bincount(place, minlength=frames * 2 * height * width)
    lost = int(np.maximum(counts - MOST, 0).sum())
    return np.minimum(counts, MOST).astype(np.uint8).reshape(binning.shape), lost
