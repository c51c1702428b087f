"""The studies of near-lossless students: a ResNet that people have, quantised first and made spiking then.

    python benchmarks/lossless.py --study choices --source resnet20.th --teacher resnet56.pth --data-root DIR

Every run is a preset with its arm's overrides, in a run directory of its own, and is continued where it was stopped. An
arm that changes nothing of what a first step reads takes that step from the first arm of its study. ``--json`` writes
the overrides, the epochs and the measured figures of each run; ``--table`` prints what is finished and trains nothing.
``--override`` makes a study smaller (data.subset=5000) or longer.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ending import to_the_end
from studies import parser_of

from idsnn_cli.pipeline.run import run_all
from idsnn_cli.pipeline.run_directory import RunDirectory, read_records
from idsnn_cli.pipeline.steps.base import steps_of_run
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import load_recipe

Words = tuple[str, ...]
THIN: Words = ("data.dataset=cifar10", "student.arch=spiking-resnet20", "student.width=16", "student.shortcut=pad")
# The paper's steps of the learning rate are for its 200 epochs.
LONG: Words = (*THIN, "distill.schedule=cosine", "distill.step_every=null", "distill.milestones=null")


@dataclass(frozen=True)
class Arm:
    """One way to make the student; ``source`` says whether its start may come from the network of ``--source``."""

    words: Words = ()
    recipe: str = "presets/lossless"
    source: bool = True


# What each choice is measured at.
SMALL: Words = ("data.subset=20000", "pretrain.epochs=4", "distill.epochs=4")
# Of a start that no conversion made.
PLAIN = "pretrain.activation=relu init.convert=none distill.source_rates=false"


def _each(*words: str) -> dict[str, Arm]:
    return {word: Arm((*SMALL, *word.split())) for word in words}


# Studies by name and their arms; the first is what the others are set against.
STUDIES: dict[str, dict[str, Arm]] = {
    # From a public ResNet-20 to a Spiking ResNet-20 at T = 4 by the preset as it is, and by the paper's way and its
    # halves at equal cost: 60 epochs of the preset take as many operations as 42 spiking ones, in which nothing is
    # unfinished (Section 4.4 of the paper).
    "full": {
        "lossless": Arm(),
        "random weights, no teacher": Arm(
            (*LONG, "distill.epochs=42", "init.rule=none", "distill.alpha=0"), "presets/paper", source=False
        ),
        "random weights, distilled": Arm((*LONG, "distill.epochs=42", "init.rule=none"), "presets/paper", source=False),
        "the paper's, from the same networks": Arm((*LONG, "distill.epochs=42"), "presets/paper"),
    },
    # Each choice of the preset alone.
    "choices": {
        "the preset": Arm(SMALL),
        **_each(
            "distill.alpha=0.3",
            "distill.lr=0.05",
            "distill.lr=0.005",
            "distill.loss_on=steps",
            "distill.source_rates=false",
            "distill.clip_norm=20",
            "student.reset_gradient=detached",
            "student.surrogate_scale=0.25",
            "student.surrogate_scale=1",
            "student.surrogate=triangle",
            "student.threshold=channel",
            "student.threshold=fixed",
            "student.learn_start=none",
            "student.block=spiking student.threshold=channel",
            "student.block=spiking student.threshold=layer",
            f"student.learn_decay=layer student.decay=0.9 {PLAIN}",
            "pretrain.levels=8",
            "pretrain.alpha=0.3 distill.alpha=0.3",
            "pretrain.percentile=97",
            "pretrain.epochs=0 init.convert=weight-normalisation init.percentile=99",
        ),
        "the preset modern": Arm(
            (*THIN, *SMALL, "distill.warmup_epochs=0.5", "data.validation=null", "data.select=test"), "presets/modern"
        ),
    },
}


def overrides(options: argparse.Namespace, arm: Arm, seed: int) -> list[str]:
    """Of one run, those of its arm before those of the command line."""
    return [
        f"data.root={options.data_root}",
        f"teacher.checkpoint={options.teacher}",
        "teacher.normalise=auto",
        *([f"init.source={options.source}"] if arm.source else []),
        # The students' seeds alone differ: every run has the images and the teacher of seed 0.
        "data.seed=0",
        "teacher.seed=0",
        f"seed={seed}",
        "distill.baseline=none",
        *([] if options.threads is None else [f"runtime.threads={options.threads}"]),
        *arm.words,
        *options.override,
    ]


def folder_of(options: argparse.Namespace, study: str, name: str, seed: int) -> Path:
    """Where one run is kept."""
    plain = "".join(letter if letter.isalnum() or letter in "=." else "-" for letter in name)
    return Path(options.work) / study / plain / f"seed={seed}"


def train(options: argparse.Namespace, study: str, name: str, seed: int) -> None:
    """Begin, continue or leave one run, with the steps that the first arm has made already."""
    first = next(iter(STUDIES[study]))
    run, other = (_open(options, study, each, seed) for each in (name, first))
    shared = {} if name == first else _alike(run, other)
    run.workspace.settle_process()
    with run.locked():
        run_all(run, shared)


def _open(options: argparse.Namespace, study: str, name: str, seed: int) -> RunDirectory:
    arm = STUDIES[study][name]
    loaded = load_recipe(arm.recipe, overrides(options, arm, seed))
    return RunDirectory(folder_of(options, study, name, seed), Workspace(loaded.recipe, loaded.name, loaded.text))


def _alike(run: RunDirectory, other: RunDirectory) -> dict[str, RunDirectory]:
    """The finished first steps of ``other`` whose settings are those of ``run``: the teacher and the pre-training."""
    found, records = {}, other.records()
    for step in steps_of_run(run.workspace.recipe):
        alike = step.name in records and records[step.name].settings == step.settings(run.workspace)
        if step.name not in ("teacher", "pretrain") or not alike:
            break
        found[step.name] = other
    return found


def describe(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What each finished run was told, how its epochs went, and what was measured of it."""
    found = []
    for study, arms in STUDIES.items():
        for name, arm in arms.items():
            for folder in sorted(folder_of(options, study, name, 0).parent.glob("seed=*")):
                if not (folder / "eval.json").exists():
                    continue
                document = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
                rows = [{key: row[key] for key in ("name", "top1", "top1_by_step")} for row in document["results"]]
                found.append(
                    {
                        "study": study,
                        "arm": name,
                        "seed": int(folder.name.partition("=")[2]),
                        "recipe": arm.recipe,
                        "overrides": [*arm.words, *options.override],
                        "epochs": {step: _epochs(folder / step) for step in ("pretrain", "distill")},
                        "train_seconds": {
                            step: record.figures["train_seconds"]
                            for step, record in read_records(folder).items()
                            if "train_seconds" in record.figures
                        },
                        "results": rows,
                    }
                )
    return found


def _epochs(folder: Path) -> list[dict[str, float]]:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    keys = ("epoch", "train_loss", "train_top1", "test_top1")
    return [{key: row[key] for key in keys if key in row} for row in map(json.loads, lines) if "train_loss" in row]


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row for each run, its quantised or plain ANN and its student at each time step."""
    lines = ["| study | arm | seed | the ANN | student at T = 1, 2, ... | seconds |", "|---|---|---|---|---|---|"]
    for run in runs:
        rows = {row["name"]: row for row in run["results"]}
        ann = f"{rows['pretrain']['top1']:.2f}" if "pretrain" in rows else ""
        steps = " / ".join(f"{value:.2f}" for value in rows["student"]["top1_by_step"])
        seconds = sum(run["train_seconds"].values())
        lines.append(f"| {run['study']} | {run['arm']} | {run['seed']} | {ann} | {steps} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of(STUDIES, "runs/lossless", __doc__)
    parser.add_argument("--source", help="a network of the student's size; not needed with --table")
    options = parser.parse_args(words)
    if not options.table and not (options.source and options.teacher and options.data_root):
        parser.error("--source, --teacher and --data-root are needed")
    known = {name for study in options.study or STUDIES for name in STUDIES[study]}
    for name in options.arm or ():
        if name not in known:
            parser.error(f"there is no arm {name!r}; there are {', '.join(sorted(known))}")
    return options


def main(words: list[str] | None = None) -> None:
    options = parse(words)
    if not options.table:
        for seed in map(int, options.seeds.split(",")):
            for study in options.study or STUDIES:
                for name in STUDIES[study]:
                    if options.arm is None or name in options.arm:
                        train(options, study, name, seed)
                        sys.stdout.write(f"done: {study}, {name}, seed {seed}\n")
                        sys.stdout.flush()
    runs = describe(options)
    if options.json is not None:
        options.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write("\n" + table(runs) if runs else f"no run is finished in {options.work}\n")


if __name__ == "__main__":
    to_the_end(main)
