"""Which start is best: every mapping rule on one teacher and student, after 0, 1 and 3 epochs, with controls.

    python benchmarks/initialisation.py --teacher resnet56.th --data-root DIR --seeds 0,1,2

The teacher is a public ResNet-56 of CIFAR-10 (normalised as ImageNet), the student a Spiking ResNet-20 at T = 4, as
wide as the teacher, narrower and wider. All arms see the same images in the same order and are trained without a
teacher, so that what differs is the start. Every finished run is a line of ``--output``; a stopped one goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ending import to_the_end
from torch import Tensor

from idsnn_cli.checkpoint import open_checkpoint, write_checkpoint
from idsnn_cli.data import calibration_batches
from idsnn_cli.initializer import reestimate
from idsnn_cli.models import build, load
from idsnn_cli.pipeline.measuring import evaluate_networks
from idsnn_cli.pipeline.run import do_step
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import Given, step
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import recipe_from_mapping
from idsnn_cli.seeding import derive_seed

State = dict[str, Tensor]
Change = Callable[[State, State, torch.Generator], None]
EPOCHS = (0, 1, 3)
BATCHES = 20
# The head is copied everywhere but in the paper's own start: behind a random head every start scores as chance.
FIT = ["init.head=copy", f"init.reestimate={BATCHES}"]


@dataclass(frozen=True)
class Arm:
    """A start: overrides of the recipe, and for a control what is then changed in the start (which see)."""

    name: str
    overrides: list[str]
    change: Change | None = None


def permuted(start: State, _: State, generator: torch.Generator) -> None:
    """Every kernel's values in a random order: the distribution is kept, the filters are not."""
    for value in _kernels(start).values():
        value.copy_(value.flatten()[torch.randperm(value.numel(), generator=generator)].view_as(value))


def norms_only(start: State, random: State, _: torch.Generator) -> None:
    """Random kernels under the source's BatchNorm."""
    for name, value in _kernels(start).items():
        value.copy_(random[name])


def kernels_only(start: State, random: State, _: torch.Generator) -> None:
    """The source's kernels under a fresh BatchNorm."""
    for name, value in start.items():
        if ".norm" in name:
            value.copy_(random[name])


def _kernels(state: State) -> State:
    return {name: value for name, value in state.items() if value.dim() == 4}


def rule(name: str, *overrides: str) -> Arm:
    return Arm(name, [*FIT, *(f"init.{override}" for override in overrides)])


@dataclass(frozen=True)
class Group:
    """Starts of one student: its width, what else its recipe says of it, and the arms that are compared."""

    width: int
    arms: list[Arm]
    student: Mapping[str, str] = field(default_factory=dict)


RANDOM = Arm("random weights", ["init.rule=none"])
GROUPS = {
    "as wide": Group(
        16,
        [
            RANDOM,
            Arm("paper (head random, not re-estimated)", []),
            Arm("proportional, not re-estimated", ["init.head=copy"]),
            rule("proportional"),
            rule("first", "blocks=first"),
            rule("last", "blocks=last"),
            rule("ends", "blocks=ends"),
            rule("greedy", "blocks=greedy"),
            Arm("proportional, threshold, not re-estimated", ["init.head=copy", "init.rescale=threshold"]),
            rule("proportional, threshold", "rescale=threshold"),
            rule("proportional, threshold at 95 %", "rescale=threshold", "percentile=95"),
            rule("proportional, threshold at 80 %", "rescale=threshold", "percentile=80"),
            Arm("control: permuted kernels", ["init.head=copy"], permuted),
            Arm("control: BatchNorm only", ["init.head=copy"], norms_only),
            Arm("control: kernels only", ["init.head=copy"], kernels_only),
        ],
    ),
    "half as wide": Group(
        8,
        [
            RANDOM,
            rule("loop"),
            rule("loop, variance", "rescale=variance"),
            rule("uniform", "channels=uniform"),
            rule("importance", "channels=importance"),
            rule("merge", "channels=merge"),
            rule("random channels", "channels=random"),
        ],
    ),
    "one and a half times as wide": Group(
        24,
        [
            RANDOM,
            rule("loop"),
            rule("loop, divided", "multiplicity=divide"),
            rule("uniform, divided", "channels=uniform", "multiplicity=divide"),
            rule("uniform, divided, noise 0.2", "channels=uniform", "multiplicity=divide", "noise=0.2"),
        ],
    ),
    # The source has option A's shortcuts and a 3x3 stem: these students have use for the rules that bridge the two.
    "as wide, with projections": Group(
        16,
        [RANDOM, rule("projections random"), rule("projections select", "bare_shortcut=select")],
        {"shortcut": "projection"},
    ),
    "as wide, with a 7x7 stem": Group(
        16,
        [RANDOM, rule("centre"), rule("area", "kernels=area")],
        {"stem": "7x7"},
    ),
}


def recipe_of(options: argparse.Namespace, group: Group, arm: Arm, seed: int) -> Any:
    plain = {
        "seed": seed,
        "data": {
            "dataset": "cifar10",
            "root": options.data_root,
            "subset": options.images,
            "test_subset": options.test_images,
        },
        "teacher": {"arch": "resnet56", "shortcut": "pad", "normalise": "imagenet", "option_a": "pad"},
        "student": {
            "arch": "spiking-resnet20",
            "shortcut": "pad",
            "timesteps": 4,
            "width": group.width,
            **group.student,
        },
        "init": {"source": options.teacher},
        "distill": {
            "epochs": EPOCHS[-1],
            "batch_size": 64,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "decay_norm_and_bias": False,
            "schedule": "cosine",
            "warmup_epochs": 0.5,
            "alpha": 0,
        },
    }
    if arm is RANDOM:
        del plain["init"], plain["teacher"]
    return recipe_from_mapping(plain, arm.overrides, origin="the benchmark")


def changed(run: RunDirectory, change: Change, seed: int) -> Path:
    """The start after a control's ``change``, with BatchNorm re-estimated, in a file of its own."""
    path = step("init").file(run).with_name("control.safetensors")
    model = load(step("init").file(run))
    generator = torch.Generator().manual_seed(derive_seed(seed, "control"))
    start, random = model.state_dict(), build(model.architecture, derive_seed(seed, "init", "weights")).state_dict()
    change(start, random, generator)
    draws = derive_seed(seed, "init", "calibration")
    reestimate(model, calibration_batches(run.workspace.data.train, 64, BATCHES, draws, "cpu"))
    with open_checkpoint(step("init").file(run)) as file:
        metadata = dict(file.metadata or {})
    write_checkpoint(path, model.state_dict(), metadata)
    return path


def measure(options: argparse.Namespace, group: str, arm: Arm, seed: int) -> dict[str, Any]:
    """One run: the start, its accuracy, the training, and the accuracy after each epoch that counts."""
    folder = options.work / f"{group}-{arm.name}-{seed}".replace(" ", "_").replace(",", "").replace(":", "")
    workspace = Workspace(recipe_of(options, GROUPS[group], arm, seed), "initialisation")
    workspace.settle_process()
    run = RunDirectory(folder, workspace)
    with run.locked():
        do_step(run, "init")
        start = step("init").file(run) if arm.change is None else changed(run, arm.change, seed)
        at_start = evaluate_networks(workspace, {"init": start})["results"][0]["top1"]
        do_step(run, "distill", Given(student=start))
    records = [json.loads(line) for line in (folder / "distill" / "metrics.jsonl").read_text().splitlines()]
    by_epoch = {record["epoch"]: record["test_top1"] for record in records}
    accuracy = {str(epoch): at_start if epoch == 0 else by_epoch[epoch] for epoch in EPOCHS}
    return {"group": group, "width": GROUPS[group].width, "arm": arm.name, "seed": seed, "top1": accuracy}


def finished(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: for each group its arms, best first, mean and range over the seeds."""
    for name, group in GROUPS.items():
        rows = []
        for arm in group.arms:
            found = [run["top1"] for run in runs if (run["group"], run["arm"]) == (name, arm.name)]
            if found:
                rows.append((arm.name, [[run[str(epoch)] for run in found] for epoch in EPOCHS]))
        if not rows:
            continue
        yield (
            f"\n| student {name} (width {group.width}) | seeds | "
            + " | ".join(f"epoch {epoch}" for epoch in EPOCHS)
            + " |"
        )
        yield "|---|---|" + "---|" * len(EPOCHS)
        for arm_name, columns in sorted(rows, key=lambda row: -statistics.mean(row[1][-1])):
            cells = [f"{statistics.mean(column):.1f} ({min(column):.1f} to {max(column):.1f})" for column in columns]
            yield f"| {arm_name} | {len(columns[0])} | {' | '.join(cells)} |"


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--teacher", help="the public ResNet-56 of CIFAR-10; not needed with --table")
    parser.add_argument("--data-root", help="the folder of CIFAR-10")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--group", choices=list(GROUPS), help="only this group")
    parser.add_argument("--arm", help="only this arm")
    parser.add_argument("--images", type=int, default=3000, help="training images, class-balanced")
    parser.add_argument("--test-images", type=int, default=2000, help="test images, class-balanced")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--work", type=Path, default=Path("runs/initialisation"), help="where runs are kept")
    parser.add_argument(
        "--output", type=Path, default=Path("initialisation.jsonl"), help="a line for each finished run"
    )
    parser.add_argument("--table", action="store_true", help="print the table of --output and do nothing else")
    options = parser.parse_args(words)
    if not options.table and not (options.teacher and options.data_root):
        parser.error("--teacher and --data-root are needed")
    return options


def main(words: list[str] | None = None) -> None:
    options = parse(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    runs = finished(options.output)
    if not options.table:
        known = {(run["group"], run["arm"], run["seed"]) for run in runs}
        for seed in map(int, options.seeds.split(",")):
            for group, compared in GROUPS.items():
                for arm in compared.arms:
                    if (group, arm.name, seed) in known or options.group not in (None, group):
                        continue
                    if options.arm not in (None, arm.name):
                        continue
                    run = measure(options, group, arm, seed)
                    with options.output.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(run) + "\n")
                    runs.append(run)
                    sys.stdout.write(json.dumps(run) + "\n")
                    sys.stdout.flush()
    sys.stdout.write("\n".join(table(runs)) + "\n")


if __name__ == "__main__":
    to_the_end(main)
