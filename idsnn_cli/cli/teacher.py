"""``idsnn teacher``."""

from __future__ import annotations

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Output, Quiet, RunDir, Words
from idsnn_cli.cli.steps import run_step


def teacher(
    words: Words = None,
    run_dir: RunDir = None,
    output: Output = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Train the larger ANN into RUN/teacher.safetensors, or take it from teacher.checkpoint."""
    console = Console(as_json=as_json, quiet=quiet)
    run_step("teacher", console, words, run_dir=run_dir, device=device, dry_run=dry_run, force=force, output=output)
