"""Damage that must be noticed, odd recipes and image folders by the thousand, through the command line in this process.

    python tests/fuzzing_inputs.py FOLDER COUNT SEED

prints one JSON document: cases and refusals by kind, seconds, and every fault found: a traceback, an end after more
than ten seconds, an exit code other than 0, 1 and 2, stdout that is no JSON, or a flipped bit that went unnoticed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzzing import HALF, LONGEST, Hanging, at_most, originals
from PIL import Image

from idsnn_cli import load
from idsnn_cli.cli.main import main
from idsnn_cli.errors import IdsnnError

Fault = str | None


def run(*words: str | Path) -> tuple[int, str, str]:
    """``idsnn WORDS``: exit code, stdout and stderr. Raises :class:`Hanging` after ten seconds."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["idsnn", *map(str, words)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), at_most(LONGEST):
            main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
    return (code if isinstance(code, int) else -1), out.getvalue(), err.getvalue()


def fault_of(code: int, out: str, err: str) -> Fault:
    """What is wrong with how a command with ``--json`` ended; None where nothing is."""
    if "Traceback" in err:
        return err[-3000:]
    if code not in (0, 1, 2):
        return f"exit {code}: {err[-500:]}"
    if "\x1b" in err + out:
        return "a raw escape was printed"
    try:
        json.loads(out)
    except ValueError:
        return f"stdout is no JSON: {out[:300]!r} {err[-300:]}"
    return None


def flips(folder: Path, count: int, rng: random.Random) -> Iterator[tuple[str, bool, Fault]]:
    """(kind, whether it was refused, the fault) of each flip of one bit of an archive, which carries checksums."""
    files = {kind: path for kind, (path, _) in originals(folder).items() if kind in ("zip", "npz")}
    contents = {kind: path.read_bytes() for kind, path in files.items()}
    wanted = {kind: load(path, normalise=HALF, kind="ann").state_dict() for kind, path in files.items()}
    for number in range(count):
        kind = list(files)[number % len(files)]
        changed = bytearray(contents[kind])
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        files[kind].write_bytes(changed)
        refused, fault = False, None
        try:
            with at_most(LONGEST):
                found = load(files[kind], normalise=HALF, kind="ann").state_dict()
            if any(not torch.equal(found[name], value) for name, value in wanted[kind].items()):
                fault = f"accepted: bit flip {number}"
        except IdsnnError:
            refused = True
        except Hanging:
            fault = "hangs"
        except BaseException as error:
            fault = f"{type(error).__name__}: {error}"
        files[kind].write_bytes(contents[kind])
        yield f"flipped {kind}", refused, fault


WORDS = (
    *("null", "true", "-1", "0", "1e999", ".nan", "[]", "{}", "[1, 2]", "''", '"\\u202e\\x1b[31m"', "9" * 500),
    *(
        "*a",
        "&a b",
        "<<: {a: 1}",
        "!!python/object:os.system x",
        "cifar10",
        "spiking-resnet18",
        "../../x",
        "1.5",
        "2**9",
    ),
    *("'\\ud800'", "- - - -", "? :", "%", "|", ">", "\t", "\0", "\u2028", "1_000", "0x1f", "yes", "digits"),
)


def recipes(folder: Path, count: int, rng: random.Random) -> Iterator[tuple[str, bool, Fault]]:
    """Resolved recipes with values, keys and lines replaced, as ``run --dry-run`` reads them."""
    code, out, _ = run("run", "quickstart", "--dry-run", "--json")
    assert code == 0, out
    from idsnn_cli.recipe import dump_resolved, load_recipe

    whole = dump_resolved(load_recipe("quickstart").recipe).splitlines()
    path = folder / "recipe.yaml"
    for _ in range(count):
        lines = whole.copy()
        for _ in range(rng.choice((1, 1, 1, 2))):
            at = rng.randrange(len(lines))
            key, _, _ = lines[at].partition(":")
            way = rng.random()
            if way < 0.15:
                lines[at] = lines[at].replace(": 1", f": {rng.randrange(1, 99)}") + rng.choice(("", " # a"))
            elif way < 0.5:
                lines[at] = f"{key}: {rng.choice(WORDS)}"
            elif way < 0.65:
                lines[at] = lines[at][rng.randrange(len(lines[at]) + 1) :]
            elif way < 0.8:
                lines.insert(at, rng.choice(lines))
            elif way < 0.9:
                del lines[at]
            else:
                lines[at] = "".join(chr(rng.choice((*range(128), 0x202E, 0xFEFF, 0xE9))) for _ in range(20))
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        try:
            code, out, err = run("run", path, "--dry-run", "--run-dir", folder / "run", "--json")
            yield "recipe", code != 0, fault_of(code, out, err)
        except Hanging:
            yield "recipe", False, "hangs"
        except BaseException as error:
            yield "recipe", False, f"{type(error).__name__}: {error}"


def _picture(rng: random.Random) -> Image.Image:
    mode = rng.choice(("RGB", "RGB", "RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "F", "I"))
    size = (rng.choice((1, 7, 8, 33)), rng.choice((1, 8, 8, 40)))
    values = np.frombuffer(rng.randbytes(size[0] * size[1] * 3), np.uint8).reshape(size[1], size[0], 3)
    whole = Image.fromarray(values)
    if mode in ("I;16", "F", "I"):
        plain = values[..., 0].astype({"I;16": np.uint16, "F": np.float32, "I": np.int32}[mode])
        return Image.fromarray(plain * np.array(rng.choice((1, 257)), plain.dtype))
    return whole.convert(mode)


def _write_one(place: Path, rng: random.Random) -> None:
    """An image, or what only looks like one."""
    name = rng.choice(("a", "b", ".a", "._a", "ä", "a b", "x" * 100, "\u202ea")) + rng.choice(
        (".png", ".png", ".jpg", ".tiff", ".bmp", ".gif", ".PNG", ".txt", "", ".webp", ".jpeg")
    )
    path = place / name
    if path.exists() or path.is_symlink():
        return
    way = rng.random()
    with contextlib.suppress(OSError, ValueError, KeyError):
        if way < 0.75:
            _picture(rng).save(path, format=rng.choice(("PNG", "PNG", "JPEG", "TIFF", "BMP", "GIF")))
        elif way < 0.8:
            path.write_bytes(rng.randbytes(rng.randrange(300)))
        elif way < 0.84:
            path.symlink_to(rng.choice((place, place.parent, Path("nowhere"), Path("/dev/zero"))))
        elif way < 0.87:
            os.mkfifo(path)
        elif way < 0.92:
            path.mkdir()
        else:
            path.touch()
    if path.is_file() and rng.random() < 0.12 and path.stat().st_size > 8:
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content[: rng.choice((len(content), len(content) // 2))])


def folders(folder: Path, count: int, rng: random.Random) -> Iterator[tuple[str, bool, Fault]]:
    """Folders of images as ``teacher --dry-run`` checks them, and as a network reads them in ``eval``."""
    from invoking import save_network

    from idsnn_cli.architecture import build_description

    network = save_network(folder / "net.safetensors", "teacher", build_description("resnet8", 2, width=2))
    where = folder / "images"
    for number in range(count):
        shutil.rmtree(where, ignore_errors=True)
        for part in ("train", "test"):
            for kind in rng.choice((("a", "b"), ("a", "b"), ("a", "b"), ("a",), ("a", "b", ".c"), ("a", "é"))):
                place = where / part / kind
                place.mkdir(parents=True)
                for _ in range(rng.choice((1, 2, 3, 0))):
                    _write_one(place, rng)
                if rng.random() < 0.8:
                    _picture(random.Random(number)).convert("RGB").save(place / "sound.png")
        words: tuple[str | Path, ...] = ("eval", "--checkpoint", network, "--data", f"folder:{where}")
        if number % 2:
            words = ("teacher", "quickstart", "data.dataset=folder", f"data.path={where}", "--dry-run")
            words = (*words, "--run-dir", folder / "run")
        try:
            code, out, err = run(*words, "data.image_size=8", "--json")
            yield "folder", code != 0, fault_of(code, out, err)
        except Hanging:
            yield "folder", False, "hangs"
        except BaseException as error:
            yield "folder", False, f"{type(error).__name__}: {error}"


Kind = Callable[[Path, int, random.Random], Iterator[tuple[str, bool, Fault]]]
# With the share of the count that each takes.
KINDS: dict[str, tuple[Kind, float]] = {"flips": (flips, 0.5), "recipes": (recipes, 0.3), "folders": (folders, 0.2)}


def fuzz(folder: Path, count: int, seed: int) -> dict[str, Any]:
    cases, refused = Counter[str](), Counter[str]()
    faults: list[dict[str, str]] = []
    started = time.perf_counter()
    for name, (kind, share) in KINDS.items():
        place = folder / name
        place.mkdir()
        for what, was_refused, fault in kind(place, round(count * share), random.Random(seed)):
            cases[what] += 1
            refused[what] += was_refused
            if fault is not None:
                faults.append({"kind": what, "number": str(cases[what]), "fault": fault})
    seconds = round(time.perf_counter() - started, 1)
    return {"cases": cases, "refused": refused, "seconds": seconds, "faults": faults}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(fuzz(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
