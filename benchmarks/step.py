"""How fast a training step is, beside the textbook form, a looped neuron and the convolutions' own limit.

    python benchmarks/step.py                          # every case, a table
    python benchmarks/step.py --case lif --json        # one case, as JSON
    python benchmarks/step.py --peer path.py:factory   # race others too: factory(architecture) -> module, named so
    python benchmarks/step.py --device cuda            # on a GPU, under bf16 autocast; written, but not run on one yet

Variants: ``naive`` (benchmarks/textbook.py), ``loop`` (time merged into the batch, the neuron a Python loop under
autograd), ``ours`` (what ``idsnn distill`` runs). All take the same weights, images, optimiser and threads, and the
same dtype; but on a CPU with ``--precision bf16`` (``auto`` where the CPU has it) ``ours`` and the convolutions' own
limit are in bf16, as ``idsnn distill`` is there, and ``ours-fp32`` runs beside the others, which are float32.
JSON: {case: {"naive_over_ours": ratio of median step times, "roofline_share": the convolutions' own time over ours,
"memory_ours_over_naive": ratio of peaks above an idle process, "images_per_second": ours, "seconds": medians}}.
With --output the JSON is written after each case. On a GPU there are cases more, the paper's step (``distill-b64``,
``-b256``), and peaks are of torch's allocator; what else a GPU must show is in ``gpu.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import Work, convolution_floor, interleaved, peak_memory, peak_resident, wait
from textbook import NaiveLIF, NaiveSpikingResNet
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, Neuron, build_description
from idsnn_cli.data import Split, TrainBatches, eval_batches
from idsnn_cli.models import build, per_step
from idsnn_cli.models.fixed import fixed
from idsnn_cli.recipe.schema import Augment, Training
from idsnn_cli.spiking import LIF, lif, lif_reference
from idsnn_cli.spiking.precision import SWITCH, chosen_precision, computing
from idsnn_cli.training import Objective, keep_freed_memory, make_optimiser
from idsnn_cli.training.step_graph import WARM_UP, CudaRecorder, Recorder, StepGraph

CASES: dict[str, dict[str, Any]] = {
    "lif": {"shape": [4, 64, 64, 32, 32], "tiny": [4, 2, 3, 8, 8]},
    "spiking-resnet18-b16": {"arch": "spiking-resnet18", "batch": 16},
    "spiking-resnet18-b64": {"arch": "spiking-resnet18", "batch": 64},
    "spiking-resnet20-b128": {"arch": "spiking-resnet20", "batch": 128},
    "distill": {"arch": "spiking-resnet18", "batch": 16, "teacher": "resnet34"},
    "data": {"batch": 64},
    "eval": {"arch": "spiking-resnet20", "batch": 128},
}
GPU_CASES: dict[str, dict[str, Any]] = {
    "distill-b64": {"arch": "spiking-resnet18", "batch": 64, "teacher": "resnet34"},
    "distill-b256": {"arch": "spiking-resnet18", "batch": 256, "teacher": "resnet34"},
}


Peers = dict[str, Callable[..., nn.Module]]
_NONE: Peers = {}


@dataclass(frozen=True)
class Place:
    """Where the race is run. On a GPU all variants run under bf16 autocast, on a CPU ours where ``bf16`` says so."""

    device: torch.device
    bf16: bool = False

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.gpu else torch.float32

    @property
    def warm_up(self) -> int:
        """Runs before the first that counts: on a GPU those before the capture, and the capture."""
        return WARM_UP + 1 if self.gpu else 1

    def autocast(self, variant: str) -> Any:
        half = self.gpu or (self.bf16 and variant == "ours")
        return computing("bf16" if half else "fp32", self.device)

    @property
    def limit_dtype(self) -> torch.dtype:
        """That of the convolutions which ours is measured against."""
        return torch.bfloat16 if self.bf16 else self.dtype


def entry_of(case: str) -> dict[str, Any]:
    return (CASES | GPU_CASES)[case]


class LoopedLIF(LIF):
    """The neuron as a Python loop over time under autograd."""

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        steps = x.expand(repeat, *x.shape) if repeat > 1 else x.view(self.timesteps, -1, *x.shape[1:])
        return lif_reference(steps, self.neuron).flatten(0, 1)


def describe(case: str, tiny: bool) -> tuple[Architecture, int]:
    entry = entry_of(case)
    width = 4 if tiny else None
    architecture = build_description(entry["arch"], 10, width=width, timesteps=4, neuron=Neuron())
    return architecture, 2 if tiny else entry["batch"]


def network(variant: str, architecture: Architecture, peers: Peers, place: Place) -> nn.Module:
    """The network of ``variant`` where the race is, with the weights that all share."""
    ours = build(architecture, seed=0)
    if variant in peers:
        return peers[variant](architecture).to(place.device)
    if variant == "naive":
        naive = NaiveSpikingResNet(architecture)
        naive.take(ours.state_dict())
        naive.mean, naive.std = naive.mean.to(place.device), naive.std.to(place.device)
        return naive.to(place.device)
    if variant == "loop":
        for module in ours.modules():
            if isinstance(module, LIF):
                module.__class__ = LoopedLIF
    ours.to(place.device).to(memory_format=torch.channels_last)
    return ours


@dataclass(frozen=True)
class Trained:
    """A network, its step on a batch, and the loss of the last one, in a tensor that each step fills."""

    model: nn.Module
    step: Callable[[Tensor, Tensor], None]
    loss: Tensor


def trained(
    case: str, variant: str, tiny: bool, place: Place, peers: Peers = _NONE, recorder: Recorder | None = None
) -> Trained:
    """One optimiser step of ``variant`` on a batch, the same for all but the network; from a graph by ``recorder``."""
    architecture, batch = describe(case, tiny)
    model = network(variant, architecture, peers, place).train()
    config = Training(lr=0.01, momentum=0.9, weight_decay=0.0)
    optimiser: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    if variant == "ours" and place.gpu:
        optimiser = make_optimiser(model, config)
    teacher = None
    if "teacher" in entry_of(case):
        teacher = build(build_description(entry_of(case)["teacher"], 10, width=4 if tiny else None), seed=1)
        teacher.eval().requires_grad_(False)
        teacher.to(place.device).to(memory_format=torch.channels_last)
        if (place.bf16 or place.gpu) and variant == "ours":
            teacher = fixed(teacher, torch.bfloat16)
    objective = Objective.of({"alpha": 0.3}, teacher=teacher)
    last = torch.zeros((), device=place.device)

    def step(images: Tensor, labels: Tensor) -> None:
        with place.autocast(variant):
            taught = objective.teach(images)
            loss = objective(per_step(model(images)), labels, taught, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        last.copy_(loss.detach())

    if recorder is None:
        return Trained(model, step, last)
    return Trained(model, StepGraph(step, recorder, lambda line: sys.exit(f"{case}: {line}")), last)


def training_work(case: str, variant: str, tiny: bool, place: Place, peers: Peers = _NONE) -> Work:
    """The step of ``variant`` on one batch that lies ready."""
    batch = describe(case, tiny)[1]
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, 32, 32, generator=generator).to(place.device)
    labels = torch.randint(0, 10, (batch,), generator=generator).to(place.device)
    recorder = CudaRecorder(place.device) if variant == "ours" and place.gpu else None
    step = trained(case, variant, tiny, place, peers, recorder).step
    return lambda: step(images, labels)


def lif_step(variant: str, tiny: bool, place: Place) -> Work:
    """Forward and backward of one layer of neurons."""
    shape = CASES["lif"]["tiny" if tiny else "shape"]
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(place.device, place.dtype).requires_grad_()
    grad = torch.ones(shape, dtype=place.dtype, device=place.device)
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


def step_of(case: str, variant: str, tiny: bool, place: Place, peers: Peers = _NONE) -> Work:
    return lif_step(variant, tiny, place) if case == "lif" else training_work(case, variant, tiny, place, peers)


def compare(case: str, rounds: int, tiny: bool, place: Place, peers: Peers) -> dict[str, Any]:
    """A case in which the variants race."""
    beside = ["ours-fp32"] if place.bf16 and case != "lif" else []
    variants = ["naive", "loop", "ours", *beside, *(peers if case != "lif" else ())]
    works = {name: step_of(case, name, tiny, place, peers) for name in variants}
    seconds = interleaved(works, rounds, place.device, place.warm_up)
    found: dict[str, Any] = {"seconds": seconds, "naive_over_ours": seconds["naive"] / seconds["ours"]}
    if case != "lif":
        architecture, batch = describe(case, tiny)
        found["images_per_second"] = batch / seconds["ours"]
        floor = convolution_floor(architecture, batch, rounds=rounds, device=place.device, dtype=place.limit_dtype)
        found["roofline_share"] = floor / seconds["ours"]
    word = case + (" tiny" if tiny else "")
    peaks = {name: peak_memory(__file__, word, name, place.device) for name in ("naive", "ours")}
    found["peak_bytes"] = peaks
    found["memory_ours_over_naive"] = peaks["ours"] / max(peaks["naive"], 1)
    return found


def random_batches(count: int, batch: int, place: Place) -> TrainBatches:
    """Augmented batches (crop and flip) of ``count`` random images that lie where the race is."""
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return TrainBatches(
        Split(images, torch.zeros(count, dtype=torch.int64)).to(place.device),
        batch_size=batch,
        augment=Augment(),
        seed=0,
        device=place.device,
        fill=(0.5, 0.5, 0.5),
    )


def data_case(rounds: int, tiny: bool, place: Place) -> dict[str, Any]:
    """Images a second of the augmenting pipeline alone (crop and flip), and over what a training step consumes."""
    count = 16 if tiny else 4096
    batches = random_batches(count, 4 if tiny else 64, place)
    works: dict[str, Work] = {
        "pipeline": lambda: sum(len(each.labels) for each in batches.epoch(0)),
        "step": step_of("spiking-resnet20-b128", "ours", tiny, place),
    }
    seconds = interleaved(works, rounds, place.device, place.warm_up)
    consumed = describe("spiking-resnet20-b128", tiny)[1] / seconds["step"]
    rate = count / seconds["pipeline"]
    return {"seconds": seconds, "images_per_second": rate, "pipeline_over_step": rate / consumed}


def eval_case(rounds: int, tiny: bool, place: Place) -> dict[str, Any]:
    """Images a second of evaluation (float32 on a CPU), and over those of training."""
    architecture, batch = describe("eval", tiny)
    model = network("ours", architecture, _NONE, place).eval()
    split = Split(torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8), torch.zeros(batch, dtype=torch.int64))
    split = split.to(place.device)

    @torch.no_grad()
    def measure() -> None:
        for images, _ in eval_batches(split, batch, place.device):
            model(images)

    works: dict[str, Work] = {"eval": measure, "step": step_of("spiking-resnet20-b128", "ours", tiny, place)}
    seconds = interleaved(works, rounds, place.device, place.warm_up)
    ratio = (batch / seconds["eval"]) / (describe("spiking-resnet20-b128", tiny)[1] / seconds["step"])
    return {"seconds": seconds, "images_per_second": batch / seconds["eval"], "eval_over_step": ratio}


def load_peer(word: str) -> tuple[str, Callable[..., nn.Module]]:
    """A factory from another file, by its name."""
    path, _, name = word.partition(":")
    spec = importlib.util.spec_from_file_location("peer", path)
    if spec is None or spec.loader is None or not name:
        sys.exit(f"--peer takes path/to/module.py:factory, not {word}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    factory: Callable[..., nn.Module] = getattr(module, name)
    return name, factory


def table(results: dict[str, dict[str, Any]]) -> str:
    others = sorted(
        {name for found in results.values() for name in found["seconds"]} - {"ours", "pipeline", "step", "eval"}
    )
    heads = ["case", "ours ms", *(f"{name}/ours" for name in others), "roofline", "memory", "images/s"]
    rows = [heads]
    for case, found in results.items():
        seconds = found["seconds"]
        ours = seconds.get("ours", seconds.get("pipeline", seconds.get("eval")))
        cells = [f"{seconds[name] / ours:.2f}" if name in seconds else "-" for name in others]
        tail = [f"{found[key]:.2f}" if key in found else "-" for key in ("roofline_share", "memory_ours_over_naive")]
        rate = f"{found['images_per_second']:,.0f}" if "images_per_second" in found else "-"
        rows.append([case, f"{1000 * ours:.1f}", *cells, *tail, rate])
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def measure(case: str, rounds: int, tiny: bool, place: Place, peers: Peers) -> dict[str, Any]:
    if case in ("data", "eval"):
        return {"data": data_case, "eval": eval_case}[case](rounds, tiny, place)
    return compare(case, rounds, tiny, place, peers)


def peak_of(case: str, variant: str, tiny: bool, place: Place) -> int:
    """Bytes above what is there before the network: of the process, or on a GPU of torch's allocator."""
    before = peak_resident()
    work = step_of(case, variant, tiny, place)
    for _ in range(place.warm_up):
        work()
    wait(place.device)
    return torch.cuda.max_memory_reserved(place.device) if place.gpu else peak_resident() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help=f"one of {', '.join(CASES)}; repeat for several")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--output", type=Path, help="write the JSON into this file, too")
    parser.add_argument("--rounds", type=int, default=9, help="how often each variant is timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tiny", action="store_true", help="tiny networks: only that it works")
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help="keep freed memory, as idsnn's commands do on a CPU; all variants and the roofline gain by it",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        help="path/to/module.py:factory, which takes an Architecture and gives a module; repeat for several",
    )
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"), help="of ours on a CPU")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"device is {options.device}, but torch finds no usable CUDA GPU")
    precision = chosen_precision(options.precision, device)
    # Processes that measure memory are told by it, too.
    os.environ[SWITCH] = "1" if precision == "bf16" else "0"
    place = Place(device, bf16=precision == "bf16" and device.type == "cpu")
    if options.keep_memory:
        keep_freed_memory()
    if options.peak_of:
        case, _, tiny = options.case[0].partition(" ")
        sys.stdout.write(json.dumps({"bytes": peak_of(case, options.peak_of, bool(tiny), place)}))
        return
    cases = CASES | GPU_CASES if place.gpu else CASES
    unknown = sorted(set(options.case or ()) - cases.keys())
    if unknown:
        parser.error(f"unknown case {', '.join(unknown)}; give one of {', '.join(cases)}")
    peers = dict(map(load_peer, options.peer))
    results: dict[str, dict[str, Any]] = {}
    for case in options.case or cases:
        sys.stderr.write(f"{case} ...\n")
        results[case] = measure(case, options.rounds, options.tiny, place, peers)
        if options.output is not None:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(results, indent=2) + "\n")
    sys.stdout.write((json.dumps(results, indent=2) if options.json else table(results)) + "\n")


if __name__ == "__main__":
    main()
