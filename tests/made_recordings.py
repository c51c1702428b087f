"""Recordings written by hand, in the formats of the sets that are read."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Event = tuple[int, int, int, int]
"""x, y, t, p."""


def write_bin(path: Path, events: Sequence[Event]) -> Path:
    """N-MNIST's format: x, y, then the polarity's bit and 23 bits of time, big-endian."""
    raw = bytearray()
    for x, y, t, p in events:
        raw += bytes((x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(raw))
    return path


def write_aedat(path: Path, addresses: Sequence[int], times: Sequence[int]) -> Path:
    """AEDAT 2: a header of comments, then address and time, 32 bits each, big-endian."""
    pairs = np.stack([np.array(addresses), np.array(times)], 1).astype(">u4")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"#!AER-DAT2.0\r\n# events of a test\r\n" + pairs.tobytes())
    return path


_STREAM = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="compression" type="string">NONE</attr>
<attr key="originalModuleName" type="string">test</attr><attr key="originalOutputName" type="string">events</attr>
<attr key="typeDescription" type="string">Array of events.</attr><attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/"><attr key="sizeX" type="int">128</attr>
<attr key="sizeY" type="int">128</attr></node></node></node></dv>"""


def write_aedat4(path: Path, events: Sequence[Event]) -> Path:
    """AEDAT 4, not compressed: its header and one packet of events, each a flatbuffer behind its size."""
    from flatbuffers import Builder

    head = Builder()
    node = head.CreateString(_STREAM)
    head.StartObject(3)
    head.PrependInt32Slot(0, 0, 0)  # no compression
    head.PrependInt64Slot(1, -1, 0)  # no table of packets
    head.PrependUOffsetTRelativeSlot(2, node, 0)
    head.FinishSizePrefixed(head.EndObject(), file_identifier=b"IOHE")
    packet = Builder()
    packet.StartVector(16, len(events), 8)
    for x, y, t, p in reversed(events):
        packet.Prep(8, 16)
        packet.Pad(3)
        packet.PrependBool(bool(p))
        packet.PrependInt16(y)
        packet.PrependInt16(x)
        packet.PrependInt64(t)
    elements = packet.EndVector()
    packet.StartObject(1)
    packet.PrependUOffsetTRelativeSlot(0, elements, 0)
    packet.FinishSizePrefixed(packet.EndObject(), file_identifier=b"EVTS")
    body = bytes(packet.Output())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"#!AER-DAT4.0\r\n" + bytes(head.Output()) + struct.pack("<II", 0, len(body)) + body)
    return path


def write_npz(path: Path, events: Sequence[Event]) -> Path:
    x, y, t, p = np.array(events, dtype=np.int64).reshape(-1, 4).T
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=x, y=y, t=t, p=p)
    return path


def bars(seed: int, down: bool, sensor: int = 16, count: int = 240) -> list[Event]:
    """A bar that moves across the sensor, or down: two classes that a network learns in a moment."""
    draws = np.random.default_rng(seed)
    times = np.sort(draws.integers(0, 3000, count))
    moving = times * sensor // 3000
    along = draws.integers(0, sensor, count)
    x, y = (along, moving) if down else (moving, along)
    return list(zip(x.tolist(), y.tolist(), times.tolist(), draws.integers(0, 2, count).tolist(), strict=True))


def write_bars(folder: Path, train: int = 12, test: int = 6) -> Path:
    """A folder of the data set ``events``, of a sensor of 16x16."""
    for part, count, first in (("train", train, 0), ("test", test, 1000)):
        for number in range(count):
            for down, name in enumerate(("across", "down")):
                write_npz(folder / part / name / f"{number}.npz", bars(first + 2 * number + down, bool(down)))
    return folder
