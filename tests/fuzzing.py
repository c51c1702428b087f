"""Damaged checkpoints by the thousand, read as the commands read them: run as a program, so that memory is its own.

    python tests/fuzzing.py FOLDER COUNT SEED

prints one JSON document: cases and refusals by kind, seconds, the largest growth of memory, and every fault found.
"""

from __future__ import annotations

import io
import json
import random
import re
import signal
import sys
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from idsnn_cli import initialize, load
from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.errors import IdsnnError
from idsnn_cli.families import Reading
from idsnn_cli.initializer import Rules, make_plan
from idsnn_cli.models import build
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint

LONGEST = 10.0  # seconds for one case that otherwise takes some hundredths
MOST_LINES = 5
ARCHITECTURE = build_description("resnet8", 3, width=2)
STUDENT = build_description("spiking-resnet8", 3, width=2, timesteps=2)
HALF = ((0.5,) * 3, (0.5,) * 3)


class Hanging(BaseException):
    """Not an Exception: nothing that reads files may take it for a damaged one."""


def originals(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Kind -> (the file that is damaged, the file that is then read). All hold one small ResNet."""
    state: dict[str, Tensor] = build(ARCHITECTURE, seed=0).state_dict()
    theirs = {key: value for key, value in state.items() if not key.startswith("input.")}
    places = {kind: folder / kind for kind in ("ours", "safetensors", "shard", "index", "zip", "legacy", "npz")}
    for place in places.values():
        place.mkdir()
    described = {
        "kind": "student",
        "architecture": STUDENT.to_dict(),
        "recipe": {"seed": 3, "data": {"dataset": "digits"}},
        "provenance": {"start": {"rule": "loop", "dropped": {"a": "b"}}},
        "mapping": make_plan(ARCHITECTURE, STUDENT, {name: name for name in state}, Rules(channels="random")).to_dict(),
        "metrics": {"epoch": 2, "test_top1": 91.5},
    }
    write_checkpoint(places["ours"] / "a.safetensors", build(STUDENT, seed=0).state_dict(), described)
    write_checkpoint(places["safetensors"] / "a.safetensors", theirs, {})
    for kind in ("shard", "index"):
        parts = {f"part-{n}.safetensors": dict(list(theirs.items())[n::2]) for n in range(2)}
        for name, part in parts.items():
            write_checkpoint(places[kind] / name, part, {})
        weight_map = {key: name for name, part in parts.items() for key in part}
        (places[kind] / "a.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    wrapped = {"state_dict": theirs, "epoch": 3, "best": np.float64(91.5), "array": np.arange(3.0)}
    torch.save(wrapped, places["zip"] / "a.pt")
    torch.save(wrapped, places["legacy"] / "a.pth", _use_new_zipfile_serialization=False)
    np.savez(places["npz"] / "a.npz", allow_pickle=False, **{key: value.numpy() for key, value in theirs.items()})
    files = {kind: next(path for path in sorted(place.iterdir())) for kind, place in places.items()}
    files["shard"] = places["shard"] / "part-0.safetensors"
    return {kind: (path, places[kind] / "a.index.json" if kind == "shard" else path) for kind, path in files.items()}


def damaged(content: bytes, kind: str, rng: random.Random) -> bytes:
    """``content`` cut short, with other bytes here and there, or with another number or word in its header."""
    way = rng.random()
    if way < 0.2:
        return content[: rng.randrange(len(content))]
    if way < 0.3:
        return _spliced(content, rng)
    if way < 0.5:
        return _rewritten(content, kind, rng)
    if way < 0.7 and kind in REMADE:
        return REMADE[kind](content, rng)
    changed = bytearray(content)
    # Headers are a small part of most files, and what stands in them matters most.
    reach = len(content) if rng.random() < 0.5 else min(len(content), 900)
    from_end = kind in ("zip", "npz") and rng.random() < 0.5
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        at = rng.randrange(reach)
        changed[-1 - at if from_end else at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def _spliced(content: bytes, rng: random.Random) -> bytes:
    """A piece left out, doubled, or put elsewhere."""
    first, second = sorted(rng.randrange(len(content)) for _ in range(2))
    piece = content[first : min(second, first + 4000)]
    rest = content[:first] + content[first + len(piece) :]
    at = rng.randrange(len(rest) + 1)
    return rng.choice((rest, rest[:at] + piece + rest[at:], content[:first] + piece + content[first:]))


_NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"3",
    b"2147483648",
    b"4611686018427387904",
    b"18446744073709551615",
    b"1e999",
    b"9" * 400,
)
_WORDS = (
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'"F64"',
    b'"../../etc/passwd"',
    b'""',
    b"[[[[[[[[[[",
    b"(",
    b"'|O'",
    b"'<U900000000'",
)


def _rewritten(content: bytes, kind: str, rng: random.Random) -> bytes:
    """A number or a quoted word of the header replaced; of a safetensors file the header's length mostly fits."""
    if kind in ("ours", "safetensors", "shard"):
        length = int.from_bytes(content[:8], "little")
        header = _replaced(content[8 : 8 + length], rng)
        stated = len(header) if rng.random() < 0.8 else rng.choice((0, 1, len(content), 2**31, 2**63))
        return stated.to_bytes(8, "little") + header + content[8 + length :]
    return _replaced(content, rng)


def _replaced(text: bytes, rng: random.Random) -> bytes:
    pattern = rng.choice((rb"\d+", rb"\"[^\"]*\"", rb"'[^']*'", rb"[a-z]+\.[a-z_]+"))
    found = list(re.finditer(pattern, text[:200_000]))
    if not found:
        return text
    for _ in range(rng.choice((1, 1, 3))):
        one = rng.choice(found)
        other = rng.choice((*_NUMBERS, *_WORDS, rng.choice(found)[0]))
        text = text[: one.start()] + other + text[one.end() :]
    return text


def _other_leaf(node: Any, rng: random.Random) -> Any:
    """``node`` with one value somewhere in it replaced by an unlikely one, or by a copy of a neighbour."""
    if isinstance(node, dict | list) and node and rng.random() < 0.95:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        changed, at = node.copy(), rng.choice(keys)
        if rng.random() < 0.1:
            del changed[at]
            return changed
        changed[at] = node[rng.choice(keys)] if rng.random() < 0.1 else _other_leaf(node[at], rng)
        return changed
    if isinstance(node, str) and rng.random() < 0.5:
        return node + rng.choice(("", "x", "\0", "/../.." * 20, "9" * 5000))
    odd: tuple[Any, ...] = (
        0,
        -1,
        1,
        7,
        2**31,
        10**9,
        10**30,
        0.5,
        -1e308,
        True,
        None,
        "",
        "3x3",
        [],
        {},
        [10**9] * 3,
        [1] * 10_000,
    )
    return rng.choice(odd)


def _with_other_header(content: bytes, rng: random.Random) -> bytes:
    """A well-formed safetensors file: another value in its header, or in the metadata that idsnn keeps there."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    kept = header["__metadata__"]["idsnn"]
    if rng.random() < 0.6:
        header["__metadata__"]["idsnn"] = json.dumps(_other_leaf(json.loads(kept), rng))
    else:
        header = _other_leaf(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _with_other_index(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(_other_leaf(json.loads(content), rng)).encode()


def _with_other_member(content: bytes, rng: random.Random) -> bytes:
    """A well-formed zip archive, checksums and all, in which one member is damaged, renamed, doubled or left out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        members = [(name, old.read(name)) for name in old.namelist()]
        pickled = [at for at, (name, _) in enumerate(members) if name.endswith("data.pkl")]
        at = pickled[0] if pickled and rng.random() < 0.7 else rng.randrange(len(members))
        name, member = members[at]
        way = rng.random()
        if way < 0.7:
            member = _replaced(member, rng) if rng.random() < 0.4 else _poked(member, rng)
        elif way < 0.9:
            name = rng.choice(
                (".npy", "a/data.pkl", name.replace("weight", "bias"), "../" + name, name + "\0", "x" * 3000)
            )
        members[at : at + 1] = rng.choice(([(name, member)],) * 8 + ([], [(name, member), members[0]]))
        packed = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubled names
            for name, member in members:
                new.writestr(name, member, packed)
    return stream.getvalue()


def _poked(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed) if rng.random() < 0.8 else content[: rng.randrange(len(content) + 1)]


REMADE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "ours": _with_other_header,
    "safetensors": _with_other_header,
    "shard": _with_other_header,
    "index": _with_other_index,
    "zip": _with_other_member,
    "npz": _with_other_member,
}


def _describe(path: Path) -> None:
    describe_checkpoint(path, Reading()).to_dict()


def _load(path: Path) -> None:
    ours = path.parent.name == "ours"
    load(path, normalise=None if ours else HALF, kind="auto" if ours else "ann")


def _start(path: Path) -> None:
    initialize(path, "spiking-resnet8", num_classes=3, kind="auto" if path.parent.name == "ours" else "ann")


COMMANDS: tuple[Callable[[Path], None], ...] = (_describe, _load, _start)  # inspect, eval and init


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Hanging

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def resident(peak: bool) -> int:
    """This process's resident memory in bytes: the largest since :func:`forget_peak`, or now."""
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def outcome(command: Callable[[Path], None], path: Path) -> str | None:
    """What is wrong with how ``command`` ends on ``path``; None for a refusal as it should be. "read" is no fault."""
    try:
        with at_most(LONGEST):
            command(path)
    except IdsnnError as error:
        lines = f"{error.message}\n{error.fix or ''}".strip().splitlines()
        if not 1 <= len(lines) <= MOST_LINES or error.exit_code != 1 or error.fix is None:
            return f"exit {error.exit_code}, {len(lines)} lines: {error}"
        return None
    except Hanging:
        return "hangs"
    except BaseException:
        return traceback.format_exc()
    return "read"


def fuzz(folder: Path, count: int, seed: int) -> dict[str, Any]:
    files = originals(folder)
    rng = random.Random(seed)
    for path, entry in files.values():
        whole = [outcome(command, entry) for command in COMMANDS]
        assert whole == ["read"] * len(COMMANDS), (path, whole)
    cases, refused = Counter[str](), Counter[str]()
    faults: list[dict[str, Any]] = []
    growth, started = 0, time.perf_counter()
    contents = {kind: path.read_bytes() for kind, (path, _) in files.items()}
    for number in range(count):
        kind = list(files)[number % len(files)]
        path, entry = files[kind]
        content = damaged(contents[kind], kind, rng)
        path.write_bytes(content)
        forget_peak()
        before = resident(peak=False)
        found = outcome(COMMANDS[number // len(files) % len(COMMANDS)], entry)
        growth = max(growth, resident(peak=True) - before - len(content))
        cases[kind] += 1
        refused[kind] += found is None
        if found not in (None, "read"):
            faults.append({"kind": kind, "number": number, "fault": str(found)})
        path.write_bytes(contents[kind])
    left = {path.name for place in folder.iterdir() for path in place.iterdir()}
    expected = {path.name for path, _ in files.values()} | {"a.index.json", "part-0.safetensors", "part-1.safetensors"}
    if left != expected:
        faults.append({"kind": "folder", "number": -1, "fault": f"files were written: {sorted(left - expected)}"})
    seconds = round(time.perf_counter() - started, 1)
    return {"cases": cases, "refused": refused, "seconds": seconds, "growth": growth, "faults": faults}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(fuzz(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
