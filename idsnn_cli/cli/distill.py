"""``idsnn distill``."""

from __future__ import annotations

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Output, Quiet, RunDir, StudentFile, TeacherFile, Words
from idsnn_cli.cli.steps import run_step


def distill(
    words: Words = None,
    run_dir: RunDir = None,
    teacher: TeacherFile = None,
    student: StudentFile = None,
    output: Output = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Train the spiking student from its first weights, against the teacher, into RUN/student.safetensors."""
    console = Console(as_json=as_json, quiet=quiet)
    run_step(
        "distill",
        console,
        words,
        run_dir=run_dir,
        device=device,
        dry_run=dry_run,
        force=force,
        teacher=teacher,
        student=student,
        output=output,
    )
