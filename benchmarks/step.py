"""How fast a training step is, beside the textbook form, a looped neuron and the convolutions' own limit.

    python benchmarks/step.py                          # every case, a table
    python benchmarks/step.py --case lif --json        # one case, as JSON
    python benchmarks/step.py --peer path.py:factory   # race another implementation: factory(architecture) -> module

Variants: ``naive`` (benchmarks/textbook.py), ``loop`` (time merged into the batch, the neuron a Python loop under
autograd), ``ours`` (what ``idsnn distill`` runs). All take the same weights, images, optimiser, dtype and threads.
JSON: {case: {"naive_over_ours": ratio of median step times, "roofline_share": the convolutions' own time over ours,
"memory_ours_over_naive": ratio of peaks above an idle process, "images_per_second": ours, "seconds": medians}}.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from measuring import Work, convolution_floor, interleaved, peak_memory, peak_resident
from textbook import NaiveLIF, NaiveSpikingResNet
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, Neuron, build_description
from idsnn_cli.data import Split, TrainBatches, eval_batches
from idsnn_cli.models import build, per_step
from idsnn_cli.recipe.schema import Augment
from idsnn_cli.spiking import LIF, lif, lif_reference
from idsnn_cli.training import Objective, keep_freed_memory

CASES: dict[str, dict[str, Any]] = {
    "lif": {"shape": [4, 64, 64, 32, 32], "tiny": [4, 2, 3, 8, 8]},
    "spiking-resnet18-b16": {"arch": "spiking-resnet18", "batch": 16},
    "spiking-resnet18-b64": {"arch": "spiking-resnet18", "batch": 64},
    "spiking-resnet20-b128": {"arch": "spiking-resnet20", "batch": 128},
    "distill": {"arch": "spiking-resnet18", "batch": 16, "teacher": "resnet34"},
    "data": {"batch": 64},
    "eval": {"arch": "spiking-resnet20", "batch": 128},
}


class LoopedLIF(LIF):
    """The neuron as a Python loop over time under autograd."""

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        steps = x.expand(repeat, *x.shape) if repeat > 1 else x.view(self.timesteps, -1, *x.shape[1:])
        return lif_reference(steps, self.neuron).flatten(0, 1)


def describe(case: str, tiny: bool) -> tuple[Architecture, int]:
    entry = CASES[case]
    width = 4 if tiny else None
    architecture = build_description(entry["arch"], 10, width=width, timesteps=4, neuron=Neuron())
    return architecture, 2 if tiny else entry["batch"]


def network(variant: str, architecture: Architecture, peer: Callable[..., nn.Module] | None) -> nn.Module:
    """The network of ``variant``, with the weights that all share."""
    ours = build(architecture, seed=0)
    if variant == "peer":
        assert peer is not None
        return peer(architecture)
    if variant == "naive":
        naive = NaiveSpikingResNet(architecture)
        naive.take(ours.state_dict())
        return naive
    if variant == "loop":
        for module in ours.modules():
            if isinstance(module, LIF):
                module.__class__ = LoopedLIF
    ours.to(memory_format=torch.channels_last)
    return ours


def training_step(case: str, variant: str, tiny: bool, peer: Callable[..., nn.Module] | None = None) -> Work:
    """One optimiser step of ``variant``, the same for all but the network."""
    architecture, batch = describe(case, tiny)
    model = network(variant, architecture, peer).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 10, (batch,), generator=generator)
    teacher = None
    if "teacher" in CASES[case]:
        teacher = build(build_description(CASES[case]["teacher"], 10, width=4 if tiny else None), seed=1)
        teacher.eval().requires_grad_(False)
        teacher.to(memory_format=torch.channels_last)
    objective = Objective(alpha=0.3, teacher=teacher)

    def work() -> None:
        taught = objective.teach(images)
        loss = objective(per_step(model(images)), labels, taught, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()

    return work


def lif_step(variant: str, tiny: bool) -> Work:
    """Forward and backward of one layer of neurons."""
    shape = CASES["lif"]["tiny" if tiny else "shape"]
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grad = torch.ones(shape)
    neuron = Neuron()
    forward: dict[str, Callable[[Tensor], Tensor]] = {
        "naive": NaiveLIF(neuron),
        "loop": lambda current: lif_reference(current, neuron),
        "ours": lambda current: lif(current, neuron),
    }

    def work() -> None:
        x.grad = None
        forward[variant](x).backward(grad)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    return work


def step_of(case: str, variant: str, tiny: bool, peer: Callable[..., nn.Module] | None = None) -> Work:
    return lif_step(variant, tiny) if case == "lif" else training_step(case, variant, tiny, peer)


def compare(case: str, rounds: int, tiny: bool, peer: Callable[..., nn.Module] | None) -> dict[str, Any]:
    """A case in which the variants race."""
    variants = ["naive", "loop", "ours", *(["peer"] if peer and case != "lif" else [])]
    seconds = interleaved({name: step_of(case, name, tiny, peer) for name in variants}, rounds)
    found: dict[str, Any] = {"seconds": seconds, "naive_over_ours": seconds["naive"] / seconds["ours"]}
    if case != "lif":
        architecture, batch = describe(case, tiny)
        found["images_per_second"] = batch / seconds["ours"]
        found["roofline_share"] = convolution_floor(architecture, batch, rounds=rounds) / seconds["ours"]
    peaks = {name: peak_memory(__file__, case + (" tiny" if tiny else ""), name) for name in ("naive", "ours")}
    found["peak_bytes"] = peaks
    found["memory_ours_over_naive"] = peaks["ours"] / max(peaks["naive"], 1)
    return found


def data_case(rounds: int, tiny: bool) -> dict[str, Any]:
    """Images a second of the augmenting pipeline alone (crop and flip), and over what a training step consumes."""
    batch = 4 if tiny else 64
    count = 16 if tiny else 4096
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    batches = TrainBatches(
        Split(images, torch.zeros(count, dtype=torch.int64)),
        batch_size=batch,
        augment=Augment(),
        seed=0,
        device="cpu",
        fill=(0.5, 0.5, 0.5),
    )
    works: dict[str, Work] = {
        "pipeline": lambda: sum(len(each.labels) for each in batches.epoch(0)),
        "step": step_of("spiking-resnet20-b128", "ours", tiny),
    }
    seconds = interleaved(works, rounds)
    consumed = describe("spiking-resnet20-b128", tiny)[1] / seconds["step"]
    rate = count / seconds["pipeline"]
    return {"seconds": seconds, "images_per_second": rate, "pipeline_over_step": rate / consumed}


def eval_case(rounds: int, tiny: bool) -> dict[str, Any]:
    """Images a second of evaluation, and over those of training."""
    architecture, batch = describe("eval", tiny)
    model = network("ours", architecture, None).eval()
    split = Split(torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8), torch.zeros(batch, dtype=torch.int64))

    @torch.no_grad()
    def measure() -> None:
        for images, _ in eval_batches(split, batch, "cpu"):
            model(images)

    seconds = interleaved({"eval": measure, "step": step_of("spiking-resnet20-b128", "ours", tiny)}, rounds)
    ratio = (batch / seconds["eval"]) / (describe("spiking-resnet20-b128", tiny)[1] / seconds["step"])
    return {"seconds": seconds, "images_per_second": batch / seconds["eval"], "eval_over_step": ratio}


def load_peer(word: str) -> Callable[..., nn.Module]:
    path, _, name = word.partition(":")
    spec = importlib.util.spec_from_file_location("peer", path)
    if spec is None or spec.loader is None or not name:
        sys.exit(f"--peer takes path/to/module.py:factory, not {word}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    factory: Callable[..., nn.Module] = getattr(module, name)
    return factory


def table(results: dict[str, dict[str, Any]]) -> str:
    heads = ["case", "ours ms", "naive/ours", "loop/ours", "roofline", "memory", "images/s"]
    rows = [heads]
    for case, found in results.items():
        seconds = found["seconds"]
        ours = seconds.get("ours", seconds.get("pipeline", seconds.get("eval")))
        loop = f"{seconds['loop'] / ours:.2f}" if "loop" in seconds else "-"
        cells = [f"{found[key]:.2f}" if key in found else "-" for key in ("naive_over_ours",)]
        tail = [f"{found[key]:.2f}" if key in found else "-" for key in ("roofline_share", "memory_ours_over_naive")]
        rate = f"{found['images_per_second']:,.0f}" if "images_per_second" in found else "-"
        rows.append([case, f"{1000 * ours:.1f}", *cells, loop, *tail, rate])
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help=f"one of {', '.join(CASES)}; repeat for several")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=9, help="how often each variant is timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tiny", action="store_true", help="tiny networks: only that it works")
    parser.add_argument("--peer", help="path/to/module.py:factory, which takes an Architecture and gives a module")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as every command does on a CPU; here all variants gain by it
    if options.peak_of:
        case, _, tiny = options.case[0].partition(" ")
        before = peak_resident()
        step_of(case, options.peak_of, bool(tiny))()
        sys.stdout.write(json.dumps({"bytes": peak_resident() - before}))
        return
    unknown = sorted(set(options.case or ()) - CASES.keys())
    if unknown:
        parser.error(f"unknown case {', '.join(unknown)}; give one of {', '.join(CASES)}")
    peer = load_peer(options.peer) if options.peer else None
    results = {}
    for case in options.case or CASES:
        special = {"data": data_case, "eval": eval_case}.get(case)
        results[case] = (
            special(options.rounds, options.tiny) if special else compare(case, options.rounds, options.tiny, peer)
        )
    sys.stdout.write((json.dumps(results, indent=2) if options.json else table(results)) + "\n")


if __name__ == "__main__":
    main()
