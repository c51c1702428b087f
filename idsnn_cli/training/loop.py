"""The training loop, the same for teacher and student.

On CUDA (but for fp16, whose scaler must be asked) the host does not wait for a step: figures, and the first step that
was not finite, stay on the device until they are told, and where it is possible the whole step is one captured graph.
Every draw is named by (seed, step, epoch, batch), so a position is all that resuming needs to know. Each process sees
its shard of the global batch; the loss is divided by the global size, so that summed gradients are those of one
process.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from idsnn_cli.data import Batch, TrainBatches, shard
from idsnn_cli.errors import CheckpointError, InterruptedRun
from idsnn_cli.evaluation.accuracy import Evaluation
from idsnn_cli.models import Model, place
from idsnn_cli.models.fixed import fixed
from idsnn_cli.recipe.schema import Training
from idsnn_cli.seeding import derive_seed
from idsnn_cli.spiking import PoissonEncoder, seed_encoders
from idsnn_cli.spiking.fused import is_watched as has_hooks
from idsnn_cli.spiking.precision import AMP_DTYPES, computing
from idsnn_cli.training.monitor import Watch, check_model, gradient_norms, non_finite_before, non_finite_step
from idsnn_cli.training.objective import Learner, Objective
from idsnn_cli.training.optimiser import learning_rate, load_optimiser, make_optimiser, optimiser_state, set_rate
from idsnn_cli.training.processes import (
    any_process,
    barrier,
    is_main,
    rank,
    share_weights,
    sum_gradients,
    world_size,
)
from idsnn_cli.training.progress import (
    BatchDone,
    Events,
    Progress,
    StopRequest,
    epoch_state,
    load_state,
    save_state,
    set_aside,
    stop_on_signals,
)
from idsnn_cli.training.step_graph import CudaRecorder, StepGraph, graph_is_possible, is_watched

# How many batches pass between looks at the other processes' signals; alone, every batch looks.
SIGNAL_INTERVAL = 10
# How many batches pass on CUDA before the host waits for their figures; a multiple of the above.
METRICS_INTERVAL = 50


@dataclass
class Fit:
    """What one training needs.

    ``name`` names its events, ``draws`` seeds what is random in its steps. ``measure`` gives the figures by which the
    best epoch is chosen; ``split`` names them. ``on_epoch`` gets the history after each epoch, ``on_best`` the best
    record so far, both in the main process only and after the numbers were found finite. ``identity`` is what no other
    training has, so that it does not go on from the state of another. ``scales`` are of :func:`make_optimiser`, by the
    model's names.
    """

    name: str
    draws: str
    model: Model
    config: Training
    objective: Objective
    batches: TrainBatches
    measure: Callable[[Model], Evaluation]
    split: str
    seed: int
    precision: str
    device: torch.device
    state_path: Path
    save_every_minutes: float
    on_best: Callable[[dict[str, Any]], None]
    on_epoch: Callable[[list[dict[str, Any]]], None]
    events: Events = field(default_factory=Events)
    cuda_graph: bool = True
    identity: str = ""
    scales: Mapping[str, float] = field(default_factory=dict)


def fit(work: Fit) -> list[dict[str, Any]]:
    """Train ``work.model`` to the end of its epochs, going on from the saved state where there is one.

    Returns the history, one record an epoch. Raises :class:`NonFiniteError` at the first number that is not finite and
    :class:`InterruptedRun` after a signal; the state on disk is then the last good one.
    """
    trainer = _Trainer(work)
    try:
        with stop_on_signals() as stop:
            return trainer.run(stop)
    finally:
        trainer.release()


def _reading(work: Fit) -> nn.Module | None:
    """The teacher in the form in which it is read fastest, which rounds as autocast does anyway."""
    teacher, dtype = work.objective.teacher, AMP_DTYPES.get(work.precision)
    if dtype is None or not isinstance(teacher, Model) or teacher.architecture.kind != "ann":
        return teacher
    if has_hooks(*teacher.modules()):  # somebody's hooks wait for layers that would be no more
        return teacher
    return fixed(teacher, dtype)


class _Trainer:
    def __init__(self, work: Fit) -> None:
        # What was read may be of another dtype: autocast starts from float32.
        dtype = torch.float64 if work.precision == "fp64" else torch.float32
        if work.objective.teacher is not None:
            place(work.objective.teacher, work.device, dtype)
            work = replace(work, objective=replace(work.objective, teacher=_reading(work)))
        self.work = work
        self.model = work.model
        self.learner = Learner(work.model, work.objective, derive_seed(work.seed, work.draws))
        place(self.learner, work.device, dtype)
        scales = {f"model.{name}": scale for name, scale in work.scales.items()}
        self.optimiser = make_optimiser(self.learner, work.config, scales)
        self.scaler = torch.amp.GradScaler(work.device.type, enabled=work.precision == "fp16")
        self.progress = Progress()
        # Whether the state on disk, if there is one, is that of a whole number of epochs.
        self.between_epochs = False
        self._resume()
        share_weights(self.learner)
        self.saved_at = time.monotonic()
        self.watch = Watch(work.device)
        self.watched = is_watched(work.device, work.precision)
        self.global_size = 0
        self.run_step: Callable[[Tensor, Tensor], None] = self._watched_step if self.watched else self.step
        if self.watched:
            # Fused optimisers read it and leave the weights as they are where it is 1, as they do for a GradScaler.
            self.optimiser.found_inf = self.watch.stopped  # type: ignore[attr-defined]  # torch's scaler sets it so, too
        if graph_is_possible(
            asked=work.cuda_graph,
            watched=self.watched,
            draws_on_host=any(isinstance(module, PoissonEncoder) for module in self._all_modules()),
        ):
            # The loss is divided by the global batch's size, a number that a graph holds.
            recorder, size = CudaRecorder(work.device), lambda: self.global_size
            self.run_step = StepGraph(self._watched_step, recorder, work.events.say, size)

    def release(self) -> None:
        """Give up the captured step and its gradients: a graph's memory would stay with the next training."""
        # It refers to this trainer, so that neither would be freed when nobody needs them any more.
        del self.run_step
        self.optimiser.zero_grad(set_to_none=True)

    def _all_modules(self) -> list[nn.Module]:
        teacher = self.work.objective.teacher
        return [*self.model.modules(), *(teacher.modules() if teacher is not None else ())]

    def _resume(self) -> None:
        """Go on from the state on disk; from the last epoch's where that is damaged, or else anew, saying so."""
        work, state = self.work, self.work.state_path
        wanted = [path for path in (state, epoch_state(state)) if path.exists()]
        for number, path in enumerate(wanted, 1):
            try:
                progress, parts = load_state(path, work.identity)
                batches = work.batches.steps_per_epoch
                progress.check(path, epochs=work.config.epochs, batches=batches, split=work.split)
            except CheckpointError as error:
                # All processes must have looked at it before it has another name.
                barrier()
                if is_main():
                    aside = set_aside(path)
                    follows = "the last epoch's state" if wanted[number:] else "the beginning"
                    work.events.say(
                        f"{error.message}\nIt is set aside as {aside.name}; {work.name} starts again from {follows}."
                    )
                barrier()
            else:
                self._take_up(path, progress, parts)
                return

    def _take_up(self, path: Path, progress: Progress, parts: dict[str, Any]) -> None:
        self.progress, self.between_epochs = progress, progress.batch == 0
        try:
            self.model.load_state_dict(parts["model"])
            self.learner.losses.load_state_dict(parts["losses"])
            load_optimiser(self.optimiser, parts["optimiser"])
            self.scaler.load_state_dict(parts["scaler"])
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} holds the state of another network: {str(error).splitlines()[0]}",
                "Start the step anew with --force.",
            ) from None

    def save(self) -> None:
        if is_main():
            parts = {
                "model": self.model.state_dict(),
                "losses": self.learner.losses.state_dict(),
                "optimiser": optimiser_state(self.optimiser),
                "scaler": self.scaler.state_dict(),
            }
            save_state(
                self.work.state_path, self.progress, parts, keep=self.between_epochs, identity=self.work.identity
            )
        self.between_epochs = self.progress.batch == 0
        self.saved_at = time.monotonic()

    def run(self, stop: StopRequest) -> list[dict[str, Any]]:
        work, progress = self.work, self.progress
        per_epoch = work.batches.steps_per_epoch
        work.events.fit_started(work.name, work.config.epochs, per_epoch, progress.epoch, progress.batch)
        try:
            while progress.epoch < work.config.epochs:
                self.epoch(stop)
                self.close_epoch()
                # The signal may have come while the epoch was measured, or between two looks of several processes.
                if any_process(bool(stop), work.device):
                    self._leave(stop)
        finally:
            work.events.fit_finished(work.name)
        # The history on disk may lag behind the state by one kill.
        self._publish()
        return progress.history

    def epoch(self, stop: StopRequest) -> None:
        work, progress = self.work, self.progress
        self.learner.train()
        started, before = time.monotonic(), progress.seconds
        self.watch.begin(progress.epoch * work.batches.steps_per_epoch + progress.batch)
        for batch in work.batches.epoch(progress.epoch, progress.batch):
            self._prepare(batch)
            self.run_step(batch.images, batch.labels)
            progress.batch = batch.index + 1
            progress.seen += batch.global_size
            if self._looks(stop):
                self._read()
                progress.seconds = before + time.monotonic() - started
                self._tell()
                self._pause(stop)

    def _prepare(self, batch: Batch) -> None:
        """What differs from step to step beside the images: the rate, Poisson's draws, the batch's size."""
        work, progress = self.work, self.progress
        per_epoch = work.batches.steps_per_epoch
        set_rate(self.optimiser, learning_rate(work.config, progress.epoch * per_epoch + batch.index, per_epoch))
        poisson = derive_seed(work.seed, work.draws, "poisson", progress.epoch, batch.index)
        seed_encoders(self.model, poisson, shard(batch.global_size, rank(), world_size()).start)
        self.global_size = batch.global_size

    def _backward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """This process's share of the loss, with its gradients made, and its count of correct images."""
        work = self.work
        with computing(work.precision, work.device):
            lesson = work.objective.teach(images)
            logits_TNK, loss = self.learner(images, labels, lesson, self.global_size)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        # Shares of a global mean are summed.
        sum_gradients(self.learner)
        with torch.no_grad():
            correct = (logits_TNK.mean(0).argmax(-1) == labels).sum()
        return loss, correct

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One optimiser step that the host looks at before the weights change."""
        loss, correct = self._backward(images, labels)
        self.scaler.unscale_(self.optimiser)
        # The batch is counted as done only after its step.
        self._guard(loss, self._where(self.progress.epoch * self.work.batches.steps_per_epoch + self.progress.batch))
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.watch.add(loss, correct, self.global_size)

    def _watched_step(self, images: Tensor, labels: Tensor) -> None:
        """One optimiser step without the host: it changes no weights if it, or one before it, is not finite."""
        loss, correct = self._backward(images, labels)
        norm, norms = gradient_norms(self.learner)
        self.watch.judge(loss, norm, norms)
        self._clip(norm)
        self.optimiser.step()
        self.watch.add(loss, correct, self.global_size)

    def _where(self, number: int) -> str:
        epoch, batch = divmod(number, self.work.batches.steps_per_epoch)
        return f"at step {number + 1} (epoch {epoch + 1}, batch {batch + 1})"

    def _looks(self, stop: StopRequest) -> bool:
        """Whether the host waits for this batch's figures: for each one, or on CUDA for some and the epoch's last."""
        batch = self.progress.batch
        asked = world_size() == 1 and bool(stop)
        return not self.watched or batch % METRICS_INTERVAL == 0 or batch == self.work.batches.steps_per_epoch or asked

    def _read(self) -> None:
        figures = self.watch.read()
        if figures.first_bad is not None:
            raise non_finite_before(self.learner, figures, self._where(figures.first_bad))
        self.progress.loss_sum += figures.loss_sum
        self.progress.correct += figures.correct

    def _tell(self) -> None:
        progress = self.progress
        self.work.events.batch_done(
            BatchDone(
                progress.epoch,
                progress.batch,
                progress.loss_sum / progress.seen,
                100 * progress.correct / progress.seen,
                progress.seen,
                progress.seconds,
            )
        )

    def _guard(self, loss: Tensor, where: str) -> None:
        norm, _ = gradient_norms(self.learner)
        loss_is_finite = bool(torch.isfinite(loss))
        if not loss_is_finite or not bool(torch.isfinite(norm)):
            # fp16's scaler skips a step whose gradients overflowed and halves its scale: that is no failure.
            if loss_is_finite and self.scaler.is_enabled() and self.scaler.get_scale() > 1:
                return
            raise non_finite_step(self.learner, loss_is_finite, where)
        self._clip(norm)

    def _clip(self, norm: Tensor) -> None:
        if self.work.config.clip_norm is not None:
            factor = (self.work.config.clip_norm / (norm + 1e-6)).clamp_(max=1.0)
            torch._foreach_mul_([p.grad for p in self.learner.parameters() if p.grad is not None], factor)

    def _pause(self, stop: StopRequest) -> None:
        """Save when it is time, and leave when a signal asked for it."""
        work, progress = self.work, self.progress
        look = world_size() == 1 or progress.batch % SIGNAL_INTERVAL == 0
        if look and any_process(bool(stop), work.device):
            check_model(self.learner, "before saving")
            self.save()
            self._leave(stop)
        if time.monotonic() - self.saved_at >= 60 * work.save_every_minutes:
            check_model(self.learner, "before saving")
            self.save()

    def _leave(self, stop: StopRequest) -> NoReturn:
        """The state is saved: say where, with the signal that another process may have caught."""
        work, progress = self.work, self.progress
        where = f"after epoch {progress.epoch} of {work.config.epochs}"
        if progress.batch:
            where += f" and batch {progress.batch} of {work.batches.steps_per_epoch}"
        raise InterruptedRun(f"{work.name} stopped {where}; its state is saved", stop.signal_number or signal.SIGTERM)

    def close_epoch(self) -> None:
        work, progress = self.work, self.progress
        where, per_epoch = f"after epoch {progress.epoch + 1}", work.batches.steps_per_epoch
        check_model(self.learner, where)
        last = progress.epoch + 1 == work.config.epochs
        record: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "lr": learning_rate(work.config, (progress.epoch + 1) * per_epoch - 1, per_epoch),
            "train_loss": progress.loss_sum / progress.seen,
            "train_top1": 100 * progress.correct / progress.seen,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(progress.seen / max(progress.seconds, 1e-9), 1),
        }
        if last or (progress.epoch + 1) % work.config.evaluate_every == 0:
            self._measure(record)
        progress.history.append(record)
        progress.epoch += 1
        progress.open_epoch()
        self.save()
        self._publish()
        work.events.epoch_done(work.name, record, work.config.epochs)

    def _measure(self, record: dict[str, Any]) -> None:
        work, progress = self.work, self.progress
        with computing(work.precision, work.device):
            figures = work.measure(self.model)
        record[f"{work.split}_top1"] = figures.top1
        record[f"{work.split}_loss"] = figures.loss
        if progress.best_top1 is None or figures.top1 > progress.best_top1:
            progress.best_top1, progress.best_epoch = figures.top1, record["epoch"]
            # Before the state: a kill between the two repeats the epoch and writes the same file again.
            if is_main():
                work.on_best(record)

    def _publish(self) -> None:
        if is_main():
            self.work.on_epoch(self.progress.history)
