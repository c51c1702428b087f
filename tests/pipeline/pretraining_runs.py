"""Tiny runs that train the student's shape as an ANN before it spikes, from a teacher that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_runs import file_of, open_run, teacher_step

from idsnn_cli.pipeline.run_directory import RunDirectory

RECIPE = """
data: {dataset: digits, subset: 80, test_subset: 40, augment: {crop: 2, flip: false}}
teacher: {arch: resnet14, width: 6, stem: 7x7, epochs: 1, batch_size: 20}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
init: {images: 40}
pretrain: {epochs: 2, batch_size: 20}
distill: {epochs: 1, batch_size: 20}
runtime: {device: cpu}
"""


def trained_teacher(recipe: Path, folder: Path) -> Path:
    session = open_run(recipe, folder)
    teacher_step(session)
    return file_of(session, "teacher")


def opened(recipe: Path, teacher: Path, folder: Path, *words: str, **more: Any) -> RunDirectory:
    """A run that takes its teacher from a file."""
    session = open_run(recipe, folder, f"teacher.checkpoint={teacher}", *words, **more)
    teacher_step(session)
    return session
