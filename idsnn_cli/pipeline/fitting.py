"""What training the teacher, the student and the baseline have in common: record, fit, write."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from idsnn_cli.checkpoint import file_sha256, write_checkpoint, write_text
from idsnn_cli.data import TrainBatches, eval_batches, shard
from idsnn_cli.errors import MissingInputError, WriteError
from idsnn_cli.evaluation.accuracy import Evaluation, evaluate
from idsnn_cli.models import ResNet
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.pipeline.records import Record, decide, own_sections, read_records, write_record
from idsnn_cli.pipeline.session import Session, Step, StepResult, best_of
from idsnn_cli.recipe.schema import Training
from idsnn_cli.seeding import derive_seed
from idsnn_cli.training import Fit, Objective, barrier, fit, frozen, is_main, rank, sum_over_processes, world_size

METRICS, STATE = "metrics.jsonl", "state.pt"


@dataclass
class Job:
    """One network to train.

    ``make`` builds the network and its teacher (None without one), only when there is something to train. ``draws`` and
    ``seed`` seed data order and augmentation: the baseline shares the student's. ``metadata`` makes a checkpoint's
    metadata from a history record. ``inputs`` are content hashes by name.
    """

    step: Step
    config: Training
    make: Callable[[], tuple[ResNet, ResNet | None]]
    objective: Objective
    metadata: Callable[[dict[str, Any]], dict[str, Any]]
    inputs: dict[str, str]
    output: Path
    draws: str
    seed: int

    @property
    def best(self) -> Path:
        return best_of(self.output)


def measure(session: Session, model: ResNet, split: str, *, alone: bool = False) -> Evaluation:
    """``model`` on ``split``, shared over the processes or by this one ``alone``."""
    device, seed = session.device, derive_seed(session.recipe.seed, "eval", "poisson")
    images, batch_size = session.split(split), session.recipe.eval.batch_size
    if alone or world_size() == 1:
        return evaluate(model, eval_batches(images, batch_size, device), seed=seed)
    batches = eval_batches(images, batch_size, device, rank(), world_size())
    first = shard(len(images), rank(), world_size()).start

    def reduce(values: Tensor) -> Tensor:
        return sum_over_processes(values.to(device)).cpu()

    return evaluate(model, batches, seed=seed, first_image=first, reduce=reduce)


def measured_alone(session: Session, model: ResNet) -> dict[str, Any]:
    """Accuracy and loss on ``data.select``, by this process alone."""
    split = session.recipe.data.select
    found = measure(session, model, split, alone=True)
    return {"split": split, "top1": found.top1, "loss": found.loss}


def train(session: Session, job: Job) -> StepResult:
    """Do, continue or leave ``job``, as its record in the run directory says, and write its checkpoints."""
    sections = own_sections(session, job.step)
    outputs = {"last": job.output, "best": job.best}
    spare = () if job.config.keep == "best" else ("best",)
    decision = decided_by_main(lambda: decide(session, job.step, sections, job.inputs, outputs, spare))
    if decision == "unchanged":
        figures = read_records(session.run_dir)[job.step].figures
        return StepResult(job.step, "unchanged", (job.output, job.best), figures)
    data = data_facts(session)
    # Before anything is removed: a teacher that cannot be read must not cost the student that is there.
    model, teacher = job.make()
    folder = session.folder(job.step)
    if is_main():
        if decision == "fresh":
            clear(folder / METRICS, folder / STATE, job.output, job.best)
        session.write_recipe()
        write_record(session.run_dir, job.step, Record("started", sections, job.inputs, figures=data))
        make_folder(folder)
    # The others must not look for a resume state that is just being removed.
    barrier()
    recipe = session.recipe

    def save(path: Path, record: dict[str, Any]) -> None:
        write_checkpoint(path, model.state_dict(), job.metadata(record))

    def publish(history: list[dict[str, Any]]) -> None:
        write_text(folder / METRICS, "".join(json.dumps(record) + "\n" for record in history))

    with ExitStack() as stack:
        if teacher is not None:
            stack.enter_context(frozen(teacher))
        work = Fit(
            name=job.step,
            draws=job.draws,
            model=model,
            config=job.config,
            objective=replace(job.objective, teacher=teacher),
            batches=TrainBatches(
                session.data.train,
                batch_size=job.config.batch_size,
                augment=recipe.data.augment,
                seed=derive_seed(job.seed, job.draws),
                device=session.device,
                fill=session.data.mean,
                rank=rank(),
                world=world_size(),
            ),
            measure=lambda network: measure(session, network, recipe.data.select),
            split=recipe.data.select,
            seed=job.seed,
            precision=session.precision,
            device=session.device,
            cuda_graph=recipe.runtime.cuda_graph,
            state_path=folder / STATE,
            save_every_minutes=recipe.runtime.save_every_minutes,
            on_best=lambda record: save(job.best, record),
            on_epoch=publish,
            events=session.events,
        )
        history = fit(work)
    figures = _figures(history, recipe.data.select) | data
    if is_main():
        save(job.output, history[-1])
        if not job.best.exists() and figures["best_epoch"] == figures["epochs"]:
            save(job.best, history[-1])
        written = {name: file_sha256(path) for name, path in outputs.items() if path.exists()}
        write_record(session.run_dir, job.step, Record("done", sections, job.inputs, written, figures))
        if "best" not in written:
            _best_is_gone(session, job, figures)
    barrier()
    return StepResult(job.step, "done", (job.output, job.best), figures)


def _best_is_gone(session: Session, job: Job, figures: dict[str, Any]) -> None:
    """Somebody removed the best epoch's weights, which no resume state holds: an error where they are to be read."""
    message = f"{job.best}, the weights of epoch {figures['best_epoch']}, is not there any more"
    if job.config.keep == "best":
        raise MissingInputError(message, "Train the step anew with --force, or read the last epoch's with keep=last.")
    session.events.say(f"{message}; only training anew (--force) makes it again")


def data_facts(session: Session) -> dict[str, Any]:
    """What the cost of a training is counted from, known before its first step."""
    data = session.data
    size, classes = list(data.image_size), data.num_classes
    return {"data": {"name": data.name, "images": len(data.train), "image_size": size, "classes": classes}}


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


def clear(*paths: Path) -> None:
    """Remove what a step started anew will write, so that nothing unfinished looks finished."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"{path} cannot be replaced: {error.strerror}", "Check its permissions.") from None


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {path} cannot be made: {error.strerror}", "Check its permissions.") from None
