"""A student that is not trained (``distill.epochs: 0``): its first weights, measured and written as the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from idsnn_cli.checkpoint import file_sha256, write_checkpoint
from idsnn_cli.models import load, place
from idsnn_cli.pipeline.fitting import METRICS, STATE, clear, data_facts, measured_alone
from idsnn_cli.pipeline.inputs import distinct, read_start
from idsnn_cli.pipeline.making import described, main_step
from idsnn_cli.pipeline.session import Session, StepResult, best_of


def untrained_student(session: Session, start: Path, target: Path) -> StepResult:
    """Write the weights of ``start`` to ``target`` as the student of 0 epochs, with its accuracy on ``data.select``.

    There is no best epoch, so ``distill.keep`` chooses nothing. One process does it.
    """
    architecture = session.recipe.student.architecture(session.data.num_classes)
    distinct(target, start)
    plan, origin = read_start(start, architecture)
    inputs = {"data": session.data.fingerprint, "start": file_sha256(start)}

    def work() -> dict[str, Any]:
        model = load(start)
        place(model, session.device, torch.float64 if session.precision == "fp64" else torch.float32)
        found = measured_alone(session, model)
        split, top1, loss = found["split"], found["top1"], found["loss"]
        provenance = {"start": origin, "inputs": {"start": inputs["start"]}}
        metrics = {"epoch": 0, f"{split}_top1": top1, f"{split}_loss": loss}
        metadata = described(session, "student", architecture, provenance, metrics, plan)
        write_checkpoint(target, model.state_dict(), metadata)
        # What a training before it left says nothing about this student.
        folder = session.folder("distill")
        clear(best_of(target), folder / METRICS, folder / STATE)
        counts = {"epochs": 0, "split": split, "top1": top1, "best_top1": top1, "best_epoch": 0, "train_seconds": 0.0}
        return counts | data_facts(session)

    return main_step(session, "distill", inputs, {"last": target}, work)
