"""The initializer against a plain read of the tensors that it needs and a plain, synced write of its result.

    python benchmarks/initializer.py

A ResNet-152 of random weights, saved as safetensors, starts a Spiking ResNet-18. Both are timed in turns with the file
in the page cache, and the peak memory of a process that does it once is compared with what it reads and writes. With
``--device cuda`` the making of all tensors on the device is timed, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

# What an idle process holds: everything else is imported behind this figure.
_STATUS = Path("/proc/self/status")
NAMES = ("resnet152", "spiking-resnet18")
TINY = ("resnet50", "spiking-resnet18")


def held(line: str) -> int:
    """``VmRSS``, what this process holds in memory, or ``VmHWM``, the most that it has held; bytes (Linux)."""
    found = next(each for each in _STATUS.read_text().splitlines() if each.startswith(f"{line}:"))
    return 1024 * int(found.split()[1])


def ours(source: Path, target: str, output: Path) -> Any:
    """What ``idsnn init --from`` does: the start, and the checkpoint that carries its plan."""
    from idsnn_cli.checkpoint import write_checkpoint
    from idsnn_cli.initializer import initialize

    start = initialize(source, target)
    metadata = {"architecture": start.architecture.to_dict(), "mapping": start.plan.to_dict()}
    write_checkpoint(output, start.state, metadata)
    return start


def plain(source: Path, keys: list[str], state: dict[str, torch.Tensor], output: Path) -> None:
    """Read ``keys`` of ``source`` into memory, write ``state`` with the safetensors package, and sync the file."""
    import safetensors
    from safetensors.torch import save_file

    with safetensors.safe_open(source, "pt") as file:
        # Mapped pages are read when they are touched, so each tensor is copied out.
        kept = [file.get_tensor(key).clone() for key in keys]
    save_file(state, output)
    for path in (output, output.parent):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    del kept


def make_source(folder: Path, tiny: bool) -> Path:
    from idsnn_cli.architecture import build_description
    from idsnn_cli.checkpoint import write_checkpoint
    from idsnn_cli.models import build

    name = (TINY if tiny else NAMES)[0]
    network = build(build_description(name, 1000, stem="7x7", width=8 if tiny else None), seed=0)
    path = folder / "source.safetensors"
    write_checkpoint(path, network.state_dict(), {"architecture": network.architecture.to_dict()})
    return path


def measure(folder: Path, rounds: int, tiny: bool, device: str) -> dict[str, Any]:
    from measuring import interleaved

    source, output = make_source(folder, tiny), folder / "output.safetensors"
    target = (TINY if tiny else NAMES)[1]
    start = ours(source, target, output)
    keys = start.plan.reads()
    works = {
        "ours": lambda: ours(source, target, output),
        "plain": lambda: plain(source, keys, start.state, folder / "plain.safetensors"),
    }
    seconds = interleaved(works, rounds)
    command = [sys.executable, __file__, "--peak-of", str(source), "--target", target]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    import safetensors

    with safetensors.safe_open(source, "pt") as file:
        read = sum(file.get_tensor(key).nbytes for key in keys)
    found: dict[str, Any] = {
        "source": (TINY if tiny else NAMES)[0],
        "target": target,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "ours_over_plain": seconds["ours"] / seconds["plain"],
        "bytes_read": read,
        "bytes_written": output.stat().st_size,
        "peak_bytes": json.loads(done.stdout)["bytes"],
    }
    found["peak_beyond_both"] = found["peak_bytes"] - found["bytes_read"] - found["bytes_written"]
    if device == "cuda":
        found["cuda_milliseconds"] = gathers(source, start, rounds)
    return found


def gathers(source: Path, start: Any, rounds: int) -> float:
    """Milliseconds in which a CUDA device makes all tensors of the plan from source tensors that it holds."""
    import safetensors

    from idsnn_cli.initializer import apply
    from idsnn_cli.models import first_state

    device = torch.device("cuda")
    with safetensors.safe_open(source, "pt") as file:
        there = {key: file.get_tensor(key).to(device) for key in start.plan.reads()}
    own = {name: value.to(device) for name, value in first_state(start.architecture, 0).items()}
    times = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        apply(start.plan, there.__getitem__, own, device)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1000 * sorted(times[1:])[rounds // 2]


def words(found: dict[str, Any]) -> str:
    mega = 1e-6
    lines = [
        f"{found['source']} into {found['target']}, {found['threads']} threads",
        f"ours   {1000 * found['seconds']['ours']:.0f} ms",
        f"plain  {1000 * found['seconds']['plain']:.0f} ms  (ours {found['ours_over_plain']:.2f} times)",
        f"read {mega * found['bytes_read']:.1f} MB, wrote {mega * found['bytes_written']:.1f} MB, peak over an idle "
        f"process {mega * found['peak_bytes']:.1f} MB ({mega * found['peak_beyond_both']:+.1f} MB beyond both)",
    ]
    if "cuda_milliseconds" in found:
        lines.append(f"on the device {found['cuda_milliseconds']:.2f} ms")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of words")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tiny", action="store_true", help="a small source: only that it works")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        idle = held("VmRSS")
        ours(options.peak_of, options.target, options.peak_of.with_name("peak.safetensors"))
        sys.stdout.write(json.dumps({"bytes": held("VmHWM") - idle}))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.rounds, options.tiny, options.device)
    sys.stdout.write((json.dumps(found, indent=2) if options.json else words(found)) + "\n")


if __name__ == "__main__":
    main()
