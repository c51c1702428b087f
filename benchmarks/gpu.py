"""Everything that a GPU must show, in stages: each a process of its own under a time limit, the most important first.

    python benchmarks/gpu.py                       # all stages on cuda, under eight minutes
    python benchmarks/gpu.py --only step --only fit
    python benchmarks/gpu.py --packages DIR        # DIR: what the machine lacks, by `pip install --target DIR ...`
    python benchmarks/gpu.py --tiny --device cpu   # tiny networks, only that it works; what needs CUDA says so

THIS HAS NOT RUN ON A GPU YET. After each stage the JSON in --output is written anew:
{stage: {"status": done, failed, timed out, skipped or no time left, "seconds", "limit", "found": its figures, "tail":
the end of what it printed where it is not done}}. A stage writes its figures as they come, so that one that is stopped
leaves those it had. Exit 1 where a stage failed or was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
# Seconds for all stages: eight minutes less what starting and stopping take.
BUDGET = 465.0
# What one H100 is expected to reach; estimates, not measured.
TARGETS = (
    "expected of one H100 (estimates, +-40 %): a step of 5.0 ms at batch 64 and 15.7 ms at 256; an epoch of 3.9 s and "
    "3.1 s; naive / ours at least 8 with at most half the memory; the chain's kernels at 0.7 of a copy's bandwidth"
)


@dataclass(frozen=True)
class Stage:
    """``limit`` is in seconds; ``environment`` is set for the stage's process."""

    name: str
    limit: float
    needs_cuda: bool = False
    environment: dict[str, str] = field(default_factory=dict)


STAGES = (
    Stage("versions", 40),
    Stage("tests", 150),
    Stage("equality", 40),
    Stage("step", 60),
    Stage("profile", 30),
    Stage("chain", 30, needs_cuda=True),
    Stage("convolutions", 40),
    Stage("naive", 60),
    Stage("fit", 45),
    Stage("plain", 30, environment={"IDSNN_FUSED": "0"}),
)


def environment_of(stage: Stage, packages: Path | None) -> dict[str, str]:
    """This process's environment without what would change the figures, the package and ``packages`` on the path."""
    kept = {name: value for name, value in os.environ.items() if name not in ("IDSNN_FUSED", "TRITON_INTERPRET")}
    paths = [str(FOLDER.parent), *([str(packages.resolve())] if packages else []), os.environ.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | stage.environment


def run(stage: Stage, options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """The stage in a process of its own, killed with all its children after ``limit`` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        into, said = Path(folder) / "found.json", Path(folder) / "said"
        command = [sys.executable, str(FOLDER / "gpu_stages.py"), stage.name, "--device", options.device]
        command += ["--into", str(into), "--limit", str(limit), *(["--tiny"] if options.tiny else [])]
        started = time.monotonic()
        with said.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment_of(stage, options.packages),
                start_new_session=True,
            )
            try:
                status = "failed" if process.wait(timeout=limit) else "done"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = "timed out"
        seconds = round(time.monotonic() - started, 1)
        found = json.loads(into.read_text()) if into.exists() else {}
        result: dict[str, Any] = {"status": status, "seconds": seconds, "limit": round(limit, 1), "found": found}
        if status != "done":
            result["tail"] = said.read_text(errors="replace")[-3000:]
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --tiny")
    parser.add_argument("--output", type=Path, help="the JSON; results/gpu.json beside this, gpu-tiny.json with --tiny")
    parser.add_argument("--only", action="append", choices=[stage.name for stage in STAGES], help="repeat for several")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for all stages together")
    parser.add_argument("--packages", type=Path, help="a folder of packages that the machine lacks")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: only that it works")
    options = parser.parse_args()
    if options.device == "cpu" and not options.tiny:
        parser.error("on a CPU there is only the tiny form: add --tiny")
    # Figures of a trial are not left where real ones belong.
    options.output = options.output or (Path("gpu-tiny.json") if options.tiny else FOLDER / "results" / "gpu.json")
    ends = time.monotonic() + options.budget
    results: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        if options.only and stage.name not in options.only:
            continue
        left = ends - time.monotonic()
        if stage.needs_cuda and options.device == "cpu":
            results[stage.name] = {"status": "skipped", "found": {}, "tail": "needs CUDA"}
        elif left < 1:
            results[stage.name] = {"status": "no time left", "found": {}}
        else:
            results[stage.name] = run(stage, options, min(stage.limit, left))
        write(options.output, results)
        sys.stdout.write(line_of(stage.name, results[stage.name]) + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"{options.output}\n" + ("" if options.tiny else f"{TARGETS}\n"))
    if any(result["status"] not in ("done", "skipped") for result in results.values()):
        raise SystemExit(1)


def write(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(results, indent=2) + "\n")
    fresh.replace(path)


def line_of(name: str, result: dict[str, Any]) -> str:
    """A stage in a line: how it went, and its figures that are single numbers or words."""
    figures = {key: value for key, value in result["found"].items() if isinstance(value, int | float | str)}
    words = ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
    )
    end = "" if result["status"] == "done" else f"  {(result.get('tail', '').strip().splitlines() or [''])[-1]}"
    return f"{name:<13}{result['status']:<13}{result.get('seconds', 0):>6} s  {words}{end}"


if __name__ == "__main__":
    main()
