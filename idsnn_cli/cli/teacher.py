"""``idsnn teacher``."""

from __future__ import annotations

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Output, Quiet, RunDir, Words


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
    from idsnn_cli.cli.session import make_session, working
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.pipeline import preview, teacher_step

    console = Console(as_json=as_json, quiet=quiet)
    session = make_session(console, words, run_dir=run_dir, device=device, force=force)
    given = {"output": output} if output else {}
    if dry_run:
        show_plan(console, "teacher", preview(session, ["teacher"], given))
        return
    with working(console, session, ["teacher"], given):
        show_steps(console, "teacher", session, [teacher_step(session, output=output)])
