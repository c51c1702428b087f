"""``idsnn pretrain``."""

from __future__ import annotations

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Output, Quiet, RunDir, TeacherFile, Words
from idsnn_cli.cli.steps import run_step


def pretrain(
    words: Words = None,
    run_dir: RunDir = None,
    teacher: TeacherFile = None,
    output: Output = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Train the mapped student as an ANN of its own shape, before it is spiking, into RUN/pretrain.safetensors."""
    console = Console(as_json=as_json, quiet=quiet)
    run_step(
        "pretrain",
        console,
        words,
        run_dir=run_dir,
        device=device,
        dry_run=dry_run,
        force=force,
        teacher=teacher,
        output=output,
    )
