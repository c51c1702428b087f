"""Commands that are stopped at random moments, and end with the bytes that they have when nothing stops them.

    python tests/kills.py FOLDER COUNT SEED

prints one JSON document: stops by command and signal, how often a second process stood in the same run directory,
seconds, and every fault found: a traceback, another exit code than that of the signal, a second process that did not
say that it is one, files that an uninterrupted run has not or lacks, or other bytes than it has.

Each command (``run``, a grid, ``convert``, ``eval``) is run whole once. Then it is started in a fresh folder, stopped
by SIGINT, SIGTERM or SIGKILL after a random time, and started again until it ends by itself.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECIPE = """
data: {dataset: digits, subset: 60, test_subset: 20, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 3, batch_size: 10}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
distill: {epochs: 3, batch_size: 10, baseline: plain}
runtime: {threads: 1, save_every_minutes: 0.0001}
"""
CONVERT = (
    *("convert", "../../teacher.safetensors", "--data", "digits", "data.subset=60", "data.test_subset=20"),
    *("--timesteps", "2", "pretrain.epochs=2", "distill.epochs=2", "distill.batch_size=10", "pretrain.batch_size=10"),
    *("runtime.threads=1", "runtime.save_every_minutes=0.0001"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "../../tiny.yaml", "--run-dir", "run"),
    "grid": ("run", "../../tiny.yaml", "--run-dir", "run", "--seeds", "0,1", "--vary", "distill.alpha=0,0.3"),
    "convert": (*CONVERT, "--run-dir", "run"),
    "eval": ("eval", "../../tiny.yaml", "--run-dir", "run", "--full"),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# Keys whose values tell of the clock, the machine or the day.
_PASSING = ("second", "time", "date", "per_s", "images_per", "started", "finished", "latency", "throughput", "sha256")
_MOST_STARTS = 60


def start(words: tuple[str, ...], place: Path) -> subprocess.Popen[str]:
    """``idsnn WORDS`` in ``place``, with the signals that a terminal's process has."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "idsnn_cli", *words]
    with (place / "stdout.txt").open("w") as stdout:
        return subprocess.Popen(
            command,
            cwd=place,
            env=environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def end(child: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = child.communicate(timeout=300)
    return child.returncode, said


def without_passing(value: Any) -> Any:
    """A JSON value without what two runs of the same commands need not have in common."""
    if isinstance(value, dict):
        return {
            key: without_passing(each)
            for key, each in value.items()
            if not any(word in key.lower() for word in _PASSING)
        }
    return [without_passing(each) for each in value] if isinstance(value, list) else value


def content(path: Path) -> Any:
    """What two runs must have in common of a file; networks and their mapping to the byte."""
    if path.suffix in (".safetensors", ".yaml", ".csv") or path.name == "mapping.json":
        return path.read_bytes()
    if path.name == "metrics.jsonl":
        return [without_passing(json.loads(line)) for line in path.read_text().splitlines()]
    return without_passing(json.loads(path.read_text())) if path.name in ("eval.json", "grid.json") else None


def contents(place: Path) -> dict[str, Any]:
    """File below ``place`` -> what it must have in common with that of another run."""
    files = [path for path in sorted((place / "run").rglob("*")) if path.is_file()]
    return {str(path.relative_to(place)): content(path) for path in files}


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    other = [name for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    return sorted(
        [f"{name} is lacking" for name in wanted.keys() - found.keys()]
        + [f"{name} is too much" for name in found.keys() - wanted.keys()]
        + [f"{name} has other content" for name in other]
    )


class Kills:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.stops, self.seconds_whole = Counter[str](), dict[str, float]()
        self.faults: list[dict[str, str]] = []
        self.whole: dict[str, dict[str, Any]] = {}
        self.second, self.compared, self.number = Counter[str](), Counter[str](), 0
        (folder / "tiny.yaml").write_text(RECIPE)

    def fresh(self, kind: str) -> Path:
        """A folder to run ``kind`` in, as deep as every other one; ``eval`` finds the networks of a finished run."""
        self.number += 1
        place = self.folder / "places" / str(self.number)
        place.mkdir(parents=True)
        if kind == "eval":
            subprocess.run(["cp", "-r", str(self.folder / "places" / "1" / "run"), str(place / "run")], check=True)
        return place

    def run_whole(self, kind: str) -> None:
        place = self.fresh(kind)
        started = time.perf_counter()
        code, said = end(start(COMMANDS[kind], place))
        self.seconds_whole[kind] = round(time.perf_counter() - started, 2)
        if code != 0:
            raise SystemExit(f"{kind}, which nothing stopped, ended with {code}: {said}")
        self.whole[kind] = contents(place)
        if kind == "run":
            (self.folder / "teacher.safetensors").write_bytes((place / "run" / "teacher.safetensors").read_bytes())

    def fault(self, kind: str, words: str) -> None:
        self.faults.append({"command": kind, "stops": str(sum(self.stops.values())), "fault": words[-3000:]})

    def stop_until_done(self, kind: str, most: int) -> int:
        """Start ``kind`` in a fresh folder and stop it, again and again, ``most`` times or until it is done."""
        place, stopped = self.fresh(kind), 0
        for _ in range(_MOST_STARTS):
            last = stopped == most
            child = start(COMMANDS[kind], place)
            if not last:
                number = self.rng.choice(SIGNALS)
                time.sleep(self.rng.uniform(0.3, self.seconds_whole[kind]))
                if self.rng.random() < 0.2 and child.poll() is None:
                    self.stand_beside(kind, place, child)
                running = child.poll() is None
                if running:
                    child.send_signal(number)
                    stopped += 1
                    self.stops[f"{kind} {number.name}"] += 1
            code, said = end(child)
            if "Traceback" in said:
                self.fault(kind, said)
            elif code == 0:
                break
            elif last or not running or code not in (128 + number, -number):
                self.fault(kind, f"exit {code}: {said}")
                return stopped
        self.compared[kind] += 1
        for words in differences(self.whole[kind], contents(place)):
            self.fault(kind, words)
        return stopped

    def stand_beside(self, kind: str, place: Path, first: subprocess.Popen[str]) -> None:
        """A second process in the same run directory: it is refused, in words, as long as the first one works there."""
        beside = subprocess.run(
            [sys.executable, "-m", "idsnn_cli", *COMMANDS[kind]],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        refused = beside.returncode == 1 and "Error: " in beside.stderr
        self.second["refused" if refused else f"ended with {beside.returncode}"] += 1
        if "Traceback" in beside.stderr or (not refused and not _ends(first)):
            self.fault(kind, f"a second process ended with {beside.returncode}: {beside.stderr}")


def _ends(child: subprocess.Popen[str]) -> bool:
    """Whether a process whose work is done, for another one was let in, ends by itself."""
    try:
        child.wait(timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0


def kill(folder: Path, count: int, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    kills = Kills(folder, seed)
    for kind in COMMANDS:
        kills.run_whole(kind)
    while (left := count - sum(kills.stops.values())) > 0:
        for kind in COMMANDS:
            kills.stop_until_done(kind, min(left, kills.rng.randrange(1, 5)))
    return {
        "stops": kills.stops,
        "ended_and_compared": kills.compared,
        "second_process": kills.second,
        "seconds_whole": kills.seconds_whole,
        "seconds": round(time.perf_counter() - started, 1),
        "faults": kills.faults,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(kill(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
