"""The studies: the paper's claims and what could be better, on thin networks, as one command that goes on.

    python benchmarks/studies.py --teacher resnet56.th --same-size resnet20.th --data-root DIR

Every run is ``idsnn run studies/thin`` with its arm's overrides, in a run directory of its own, and is continued where
it was stopped. ``--json`` writes what ``idsnn report --json`` says of the runs, a study each; the tables go to the
standard output. The teachers are public networks of CIFAR-10, normalised as ImageNet.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ending import to_the_end

from idsnn_cli.pipeline.collecting import gather
from idsnn_cli.pipeline.run import run_all
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import load_recipe
from idsnn_cli.report.runs.page import render_markdown
from idsnn_cli.report.runs.side_by_side import describe_runs
from idsnn_cli.report.runs.trainings import Run

RECIPE = "studies/thin"
Words = tuple[str, ...]
PLAIN: Words = ("distill.alpha=0",)
RANDOM: Words = ("init.rule=none",)

# What a third and a sixth of the paper's interval between steps of the learning rate make of ten epochs (Section 4.4).
THIRD: Words = ("distill.step_every=1", "distill.epochs=4")
SIXTH: Words = ("distill.step_every=0.5", "distill.epochs=2")

# What the preset `modern` could change of the preset `paper`, each alone on top of the arm "both".
CHOICES: dict[str, Words] = {
    "best start": ("init.rule=best",),
    "cosine with warm-up": ("distill.schedule=cosine", "distill.step_every=null", "distill.warmup_epochs=0.5"),
    "sigmoid": ("student.surrogate=sigmoid",),
    "learning rate 0.1": ("distill.lr=0.1",),
    "loss on every step": ("distill.loss_on=steps",),
    "weight decay 5e-4, none on BN and biases": ("distill.weight_decay=5e-4", "distill.decay_norm_and_bias=false"),
    "AutoAugment and Cutout": ("data.augment.autoaugment=cifar10", "data.augment.cutout=8"),
    "theta 1, decay 0.5": ("student.v_threshold=1", "student.decay=0.5"),
    "alpha 1": ("distill.alpha=1",),
    "triangle": ("student.surrogate=triangle",),
    "threshold balancing": ("init.rescale=threshold",),
    "Cutout": ("data.augment.cutout=8",),
}


# Five epochs as an ANN and eight spiking ones take the operations of ten spiking ones: its epoch takes 0.4 of theirs.
PRETRAINED: Words = ("pretrain.epochs=5", "distill.epochs=8")
# And on top of it what was better alone; then one more change each.
BASE: Words = (*PRETRAINED, *CHOICES["best start"], *CHOICES["cosine with warm-up"])
MORE = ("sigmoid", "loss on every step", "learning rate 0.1", "AutoAugment and Cutout", "theta 1, decay 0.5", "alpha 1")


# What the preset `modern` has of these, in a training as short.
MODERN: Words = (
    *BASE,
    *CHOICES["sigmoid"],
    *CHOICES["weight decay 5e-4, none on BN and biases"],
    *CHOICES["AutoAugment and Cutout"],
    "pretrain.weight_decay=5e-4",
    "pretrain.decay_norm_and_bias=false",
)

# Studies by name, their arms by name, and each arm's overrides. The first arm of all is the baseline.
STUDIES: dict[str, dict[str, Words]] = {
    "arms": {
        "baseline": (*RANDOM, *PLAIN),
        "init": PLAIN,
        "kd": RANDOM,
        "both": (),
    },
    "shortened": {
        "baseline, a third": (*RANDOM, *PLAIN, *THIRD),
        "both, a third": THIRD,
        "baseline, a sixth": (*RANDOM, *PLAIN, *SIXTH),
        "both, a sixth": SIXTH,
    },
    "source": {"both, same-size source": ("init.source={same_size}",)},
    "pretrained": {"both, five epochs as an ANN, then eight": PRETRAINED},
    "choices": CHOICES,
    "modern": {
        "pretrained, best start, cosine": BASE,
        **{f"and {name}": (*BASE, *CHOICES[name]) for name in MORE},
        "all that the preset has": MODERN,
        "all but AutoAugment and Cutout": (*MODERN, "data.augment.autoaugment=none", "data.augment.cutout=0"),
    },
}
BASELINE = ("arms", "baseline")


Place = tuple[str, str, int]


def places(options: argparse.Namespace) -> list[Place]:
    """Study, arm and seed of the runs that are asked for; all arms of one seed, then those of the next."""
    wanted = list(STUDIES) if options.study is None else options.study
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found = [(study, arm, seed) for seed in seeds for study in wanted for arm in STUDIES[study]]
    return [place for place in found if options.arm is None or place[1] in options.arm]


def folder_of(options: argparse.Namespace, place: Place) -> Path:
    study, arm, seed = place
    return Path(options.work) / study / re.sub(r"[^a-z0-9]+", "-", arm) / f"seed={seed}"


def overrides(options: argparse.Namespace, place: Place) -> list[str]:
    study, arm, seed = place
    return [
        f"data.root={options.data_root}",
        f"teacher.checkpoint={options.teacher}",
        # The students' seeds alone differ: every run has the images and the teacher of seed 0.
        "data.seed=0",
        "teacher.seed=0",
        f"seed={seed}",
        *([] if options.threads is None else [f"runtime.threads={options.threads}"]),
        *(word.format(same_size=options.same_size) for word in STUDIES[study][arm]),
        *options.override,
    ]


def train(options: argparse.Namespace, place: Place) -> None:
    """Begin, continue or leave one run."""
    loaded = load_recipe(RECIPE, overrides(options, place))
    workspace = Workspace(loaded.recipe, loaded.name, loaded.text)
    workspace.settle_process()
    run = RunDirectory(folder_of(options, place), workspace)
    with run.locked():
        run_all(run)


def runs_of(options: argparse.Namespace, study: str) -> list[Run]:
    """The finished runs of a study, of any seed, each called by its arm, in folders as seen from that of all runs."""
    found = []
    for arm in STUDIES[study]:
        folders = sorted(folder_of(options, (study, arm, 0)).parent.glob("seed=*"))
        finished = [folder for folder in folders if (folder / "eval.json").exists()]
        found += [
            replace(run, label=arm, folder=Path(run.folder).relative_to(options.work).as_posix())
            for run in gather(finished)
        ]
    return found


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """A report for each study that has a finished run, all against the best epoch of the baseline."""
    baselines = [run for run in runs_of(options, BASELINE[0]) if run.label == BASELINE[1]]
    target = describe_runs(baselines)["targets"][0]["top1"] if baselines else None
    found = {study: runs_of(options, study) for study in STUDIES}
    return {study: describe_runs(runs, target) for study, runs in found.items() if runs}


def parser_of(studies: Iterable[str], work: str, description: str | None) -> argparse.ArgumentParser:
    """What any command of studies asks for; ``work`` is where run directories are kept by default."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=raw)
    parser.add_argument("--teacher", help="the public network that teaches; not needed with --table")
    parser.add_argument("--data-root", help="the folder of the images; not needed with --table")
    parser.add_argument("--study", action="append", choices=list(studies), help="only this study; may be repeated")
    parser.add_argument("--arm", action="append", help="only this arm; may be repeated")
    parser.add_argument("--seeds", default="0,1", help="comma-separated (%(default)s)")
    parser.add_argument("--override", action="append", default=[], help="a recipe override for every run")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--work", type=Path, default=Path(work), help="where run directories are kept (%(default)s)")
    parser.add_argument("--json", type=Path, help="write what is finished here")
    parser.add_argument("--table", action="store_true", help="print what is finished and train nothing")
    return parser


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of(STUDIES, "runs/studies", __doc__)
    parser.add_argument("--same-size", help="a public ResNet-20, for the study of sources")
    options = parser.parse_args(words)
    if not options.table and not (options.teacher and options.data_root):
        parser.error("--teacher and --data-root are needed")
    asked = {study for study, _, _ in places(options)}
    if not options.table and "source" in asked and options.same_size is None:
        parser.error("--same-size is needed for the study of sources")
    return options


def main(words: list[str] | None = None) -> None:
    options = parse(words)
    if not options.table:
        for place in places(options):
            train(options, place)
            sys.stdout.write(f"done: {', '.join(map(str, place))}\n")
            sys.stdout.flush()
    studies = describe(options)
    if options.json is not None:
        options.json.write_text(json.dumps(studies, indent=1) + "\n", encoding="utf-8")
    if not studies:
        sys.stdout.write(f"no run is finished in {options.work}\n")
    for study, document in studies.items():
        sys.stdout.write(f"\n# {study}\n\n{render_markdown(document)}")


if __name__ == "__main__":
    to_the_end(main)
