"""What the steps that make a network have in common: train it, or make it at once; record it, write it.

A student with mapped first weights (``distill``) and one with random ones (``baseline``) are trained alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import file_sha256, write_checkpoint, write_text
from idsnn_cli.data import DataBundle, TrainBatches, eval_batches, shard, to_unit
from idsnn_cli.errors import MissingInputError
from idsnn_cli.evaluation.accuracy import Evaluation, evaluate
from idsnn_cli.initializer import Plan
from idsnn_cli.initializer.conversion import scales
from idsnn_cli.models import Model, build, fitted, load
from idsnn_cli.pipeline.class_order import reorder_head
from idsnn_cli.pipeline.decisions import decide
from idsnn_cli.pipeline.precision import tell_of_precision
from idsnn_cli.pipeline.processes import decided_by_main
from idsnn_cli.pipeline.requirements import check_classes, check_features, distinct, read_start, require_teacher
from idsnn_cli.pipeline.run_directory import Record, RunDirectory, best_of, clear, make_folder
from idsnn_cli.pipeline.steps.base import Step, StepResult, step
from idsnn_cli.pipeline.tracking import SAMPLE, Watching
from idsnn_cli.pipeline.tracking import STATE as TRACKING
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe.defaults import without_defaults
from idsnn_cli.recipe.schema import Training
from idsnn_cli.seeding import derive_seed
from idsnn_cli.sources.names import Source
from idsnn_cli.spiking.precision import computing
from idsnn_cli.training import Fit, Objective, barrier, fit, frozen, is_main, rank, sum_over_processes, world_size
from idsnn_cli.training.losses.cross_entropy import balanced_weights
from idsnn_cli.training.progress import epoch_state
from idsnn_cli.version import __version__

METRICS, STATE = "metrics.jsonl", "state.pt"
# Parts of a history record that depend on the machine's speed.
TIMED = ("seconds", "images_per_second")


@dataclass
class Job:
    """One network to train.

    ``make`` builds the network and its teacher (None without one), only when there is something to train. ``draws`` and
    ``seed`` seed data order and augmentation: the baseline shares the student's. ``metadata`` makes a checkpoint's
    metadata from a history record. ``inputs`` are content hashes by name. ``scales`` say by tensor what a conversion
    multiplied it by, and it is trained as if it had not.
    """

    step: Step
    config: Training
    make: Callable[[], tuple[Model, Model | None]]
    objective: Objective
    metadata: Callable[[dict[str, Any]], dict[str, Any]]
    inputs: dict[str, str]
    output: Path
    draws: str
    seed: int
    scales: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> Path:
        return best_of(self.output)


def measure(workspace: Workspace, model: Model, split: str, *, alone: bool = False) -> Evaluation:
    """``model`` on ``split``, shared over the processes or by this one ``alone``."""
    device, seed = workspace.device, derive_seed(workspace.recipe.seed, "eval", "poisson")
    images, batch_size = workspace.split(split), workspace.recipe.eval.batch_size
    if alone or world_size() == 1:
        return evaluate(model, eval_batches(images, batch_size, device), seed=seed)
    batches = eval_batches(images, batch_size, device, rank(), world_size())
    first = shard(len(images), rank(), world_size()).start

    def reduce(values: Tensor) -> Tensor:
        return sum_over_processes(values.to(device)).cpu()

    return evaluate(model, batches, seed=seed, first_image=first, reduce=reduce)


def measured_alone(workspace: Workspace, model: Model) -> dict[str, Any]:
    """Accuracy and loss on ``data.select``, by this process alone."""
    split = workspace.recipe.data.select
    with computing(workspace.precision, workspace.device):
        found = measure(workspace, model, split, alone=True)
    return {"split": split, "top1": found.top1, "loss": found.loss}


def train(run: RunDirectory, job: Job) -> StepResult:
    """Do, continue or leave ``job``, as its record in the run directory says, and write its checkpoints."""
    workspace, name = run.workspace, job.step.name
    settings = job.step.settings(workspace)
    outputs = {"last": job.output, "best": job.best}
    spare = () if job.config.keep == "best" else ("best",)
    decision = decided_by_main(lambda: decide(run, job.step, settings, job.inputs, outputs, spare))
    if decision == "unchanged":
        return StepResult(name, "unchanged", (job.output, job.best), run.records()[name].figures)
    data = data_facts(workspace)
    # Before anything is removed: a teacher that cannot be read must not cost the student that is there.
    model, teacher = job.make()
    folder = job.step.folder(run)
    if is_main():
        if decision == "fresh":
            state = folder / STATE
            clear(folder / METRICS, state, epoch_state(state), folder / TRACKING, job.output, job.best)
        run.write_recipe()
        run.write_record(name, Record("started", settings, job.inputs, figures=data))
        make_folder(folder)
    # The others must not look for a resume state that is just being removed.
    barrier()
    recipe = workspace.recipe

    def save(path: Path, record: dict[str, Any]) -> None:
        write_checkpoint(path, model.state_dict(), job.metadata(record))

    watching = _watching(run, job, model)

    def publish(history: list[dict[str, Any]]) -> None:
        write_text(folder / METRICS, "".join(json.dumps(record) + "\n" for record in history))
        watching.epochs(history)

    with ExitStack() as stack:
        if is_main():
            stack.enter_context(watching)
        if teacher is not None:
            stack.enter_context(frozen(teacher))
        work = Fit(
            name=name,
            draws=job.draws,
            model=model,
            config=job.config,
            objective=replace(job.objective, teacher=teacher, class_weights=_class_weights(workspace, job.config)),
            batches=TrainBatches(
                workspace.data.train,
                batch_size=job.config.batch_size,
                augment=recipe.data.augment,
                seed=derive_seed(job.seed, job.draws),
                device=workspace.device,
                fill=workspace.data.mean,
                rank=rank(),
                world=world_size(),
            ),
            measure=lambda network: measure(workspace, network, recipe.data.select),
            split=recipe.data.select,
            seed=job.seed,
            precision=workspace.precision,
            device=workspace.device,
            cuda_graph=recipe.runtime.cuda_graph,
            state_path=folder / STATE,
            save_every_minutes=recipe.runtime.save_every_minutes,
            on_best=lambda record: save(job.best, record),
            on_epoch=publish,
            events=workspace.events,
            identity=_identity(job, settings),
            scales=job.scales,
        )
        tell_of_precision(workspace)
        history = fit(work)
    figures = _figures(history, recipe.data.select) | data
    if is_main():
        save(job.output, history[-1])
        if not job.best.exists() and figures["best_epoch"] == figures["epochs"]:
            save(job.best, history[-1])
        written = {name: file_sha256(path) for name, path in outputs.items() if path.exists()}
        run.write_record(name, Record("done", settings, job.inputs, written, figures))
        if "best" not in written:
            _best_is_gone(workspace, job, figures)
    barrier()
    return StepResult(name, "done", (job.output, job.best), figures)


def _identity(job: Job, settings: dict[str, Any]) -> str:
    """A hash of all that a training must have in common with the one whose state it goes on from: not its epochs, nor
    that keys are left at their defaults, some of which an earlier version may not have had.
    """
    alike = {
        section: {key: value for key, value in values.items() if (section, key) != (job.step.section, "epochs")}
        if isinstance(values, dict)
        else values
        for section, values in without_defaults(json.loads(json.dumps(settings))).items()
    }
    return sha256(json.dumps([job.step.name, alike, job.inputs], sort_keys=True).encode()).hexdigest()


def _watching(run: RunDirectory, job: Job, model: Model) -> Watching:
    """What looks at the training after each epoch, on some of the images that choose its best one."""
    workspace = run.workspace
    recipe = workspace.recipe

    def some() -> Tensor:
        return to_unit(workspace.split(recipe.data.select).first(SAMPLE).to(workspace.device))

    return Watching(
        names=recipe.runtime.track,
        run=run.path,
        step=job.step.name,
        file=job.step.folder(run) / TRACKING,
        config=workspace.portable_recipe(),
        model=model,
        images=some,
        seed=derive_seed(recipe.seed, "eval", "poisson"),
        say=workspace.say,
    )


def _class_weights(workspace: Workspace, config: Training) -> Tensor | None:
    """What the section's loss lets an image of each class count, on the device; None where all count 1."""
    if dict(config)["class_weights"] == "none":
        return None
    data = workspace.data
    return balanced_weights(data.train.labels, data.num_classes).to(workspace.device)


def make_at_once(
    run: RunDirectory, step: Step, inputs: dict[str, str], outputs: dict[str, Path], work: Callable[[], dict[str, Any]]
) -> StepResult:
    """A step that the main process does alone while the others wait. It is short, so a killed one starts anew."""
    settings = step.settings(run.workspace)
    decision = decided_by_main(lambda: decide(run, step, settings, inputs, outputs))
    paths = tuple(outputs.values())
    if decision == "unchanged":
        return StepResult(step.name, "unchanged", paths, run.records()[step.name].figures)
    figures: dict[str, Any] = {}
    if is_main():
        # What stands there stays until it is replaced: if this fails, nothing is lost.
        run.write_record(step.name, Record("replacing", settings, inputs))
        figures = work()
        run.write_recipe()
        written = {name: file_sha256(path) for name, path in outputs.items()}
        run.write_record(step.name, Record("done", settings, inputs, written, figures))
    barrier()
    return StepResult(step.name, "done", paths, figures)


def forget_training(run: RunDirectory, step: Step, target: Path) -> None:
    """Remove what an earlier training left: it says nothing about the network that was made at once instead."""
    state = step.folder(run) / STATE
    clear(best_of(target), step.folder(run) / METRICS, state, epoch_state(state), step.folder(run) / TRACKING)


def _best_is_gone(workspace: Workspace, job: Job, figures: dict[str, Any]) -> None:
    """Somebody removed the best epoch's weights, which no resume state holds: an error where they are to be read."""
    message = f"{job.best}, the weights of epoch {figures['best_epoch']}, is not there any more"
    if job.config.keep == "best":
        raise MissingInputError(message, "Train the step anew with --force, or read the last epoch's with keep=last.")
    workspace.say(f"{message}; only training anew (--force) makes it again")


def data_facts(workspace: Workspace) -> dict[str, Any]:
    """What the cost of a training is counted from, known before its first step."""
    data = workspace.data
    facts = {
        "name": data.name,
        "images": len(data.train),
        "image_size": list(data.image_size),
        "channels": data.channels,
        "classes": data.num_classes,
    }
    if data.frames is not None:
        facts["frames"] = data.frames
    return {"data": facts}


def _figures(history: list[dict[str, Any]], split: str) -> dict[str, Any]:
    key = f"{split}_top1"
    measured = [record for record in history if key in record]
    best = max(measured, key=lambda record: (record[key], -record["epoch"]))
    return {
        "epochs": len(history),
        "split": split,
        "top1": measured[-1][key],
        "best_top1": best[key],
        "best_epoch": best["epoch"],
        "train_seconds": round(sum(record["seconds"] for record in history), 3),
    }


def describe(
    kind: str,
    architecture: Architecture,
    *,
    recipe: dict[str, Any],
    provenance: dict[str, Any],
    data: DataBundle | None = None,
    mapping: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The metadata of one checkpoint: no times, rates or paths, so that the same run writes the same bytes.

    ``kind`` is teacher, pretrain, init, student or baseline.
    """
    described: dict[str, Any] = {
        "kind": kind,
        "architecture": architecture.to_dict(),
        "recipe": recipe,
        "provenance": provenance,
        "metrics": {key: value for key, value in (metrics or {}).items() if key not in TIMED},
        "versions": versions(),
    }
    if mapping is not None:
        described["mapping"] = mapping
    if data is not None:
        described["data"] = {"name": data.name, "classes": list(data.classes), "fingerprint": data.fingerprint}
    return described


def described(
    workspace: Workspace,
    kind: str,
    architecture: Architecture,
    provenance: dict[str, Any],
    metrics: dict[str, Any],
    plan: Plan | None = None,
    *,
    of_data: bool = True,
) -> dict[str, Any]:
    """A checkpoint's metadata in ``workspace``. ``of_data`` is False where the data had no part in it."""
    return describe(
        kind,
        architecture,
        recipe=workspace.portable_recipe(),
        provenance=provenance,
        data=workspace.data if of_data else None,
        mapping=None if plan is None else plan.to_dict(),
        metrics=metrics,
    )


def versions() -> dict[str, str]:
    """The libraries that decide what the numbers are."""
    return {"idsnn": __version__, "torch": version("torch"), "torchvision": version("torchvision")}


def student_job(
    run: RunDirectory, own: Step, start: Path | None, teacher: Source | None, taught: bool, target: Path
) -> Job:
    """The training of the step ``own``, from the weights in ``start`` (None: random ones) into ``target``.

    With ``taught`` its loss reads ``teacher``, the run's own where none is given.
    """
    workspace = run.workspace
    recipe = workspace.recipe
    architecture = recipe.student.architecture(workspace.num_classes, workspace.in_channels)
    inputs = {"data": workspace.data.fingerprint}
    origin: dict[str, Any] = {}
    plan: Plan | None = None
    if start is not None:
        distinct(target, start)
        inputs["start"] = file_sha256(start)
        plan, origin = read_start(start, architecture)
    guide = None
    if taught:
        guide = teacher or step("teacher").kept(run)
        require_teacher(workspace, guide)
        distinct(target, guide)
        inputs["teacher"] = workspace.sha256(guide)

    def make() -> tuple[Model, Model | None]:
        network = None if guide is None else workspace.load_network(guide, workspace.device)
        if network is not None and guide is not None:
            check_classes(workspace, network.architecture, guide)
            check_features(workspace, architecture, network.architecture)
        if start is not None:
            return reorder_head(load(start), workspace.class_order(start)), network
        model = build(architecture, derive_seed(recipe.seed, "init", "weights"), recipe.init.random)
        if network is None:
            model.set_normalisation(workspace.data.mean, workspace.data.std)
        else:
            values = (each.flatten().tolist() for each in (network.input.mean, network.input.std))
            model.set_normalisation(*(fitted(each, architecture.in_channels) for each in values))
        return model, network

    def metadata(record: dict[str, Any]) -> dict[str, Any]:
        provenance = {"start": origin, "inputs": {k: v for k, v in inputs.items() if k != "data"}}
        return described(workspace, own.network, architecture, provenance, record, plan)

    objective = Objective.of(dict(recipe.distill), taught=taught)
    factors = scales(architecture, plan.lambdas) if plan is not None and recipe.distill.source_rates else {}
    return Job(own, recipe.distill, make, objective, metadata, inputs, target, "distill", recipe.seed, factors)
