"""``idsnn pretrain``."""

from __future__ import annotations

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Output, Quiet, RunDir, TeacherFile, Words


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
    from idsnn_cli.cli.session import make_session, working
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.pipeline import pretrain_step, preview

    console = Console(as_json=as_json, quiet=quiet)
    session = make_session(console, words, run_dir=run_dir, device=device, force=force)
    given = {k: v for k, v in {"teacher": teacher, "output": output}.items() if v}
    if dry_run:
        show_plan(console, "pretrain", preview(session, ["pretrain"], given))
        return
    with working(console, session, ["pretrain"], given):
        show_steps(console, "pretrain", session, [pretrain_step(session, **given)])
