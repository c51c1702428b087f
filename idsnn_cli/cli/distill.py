"""``idsnn distill``."""

from __future__ import annotations

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Output, Quiet, RunDir, StudentFile, TeacherFile, Words


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
    from idsnn_cli.cli.session import make_session, working
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.pipeline import distill_step, preview

    console = Console(as_json=as_json, quiet=quiet)
    session = make_session(console, words, run_dir=run_dir, device=device, force=force)
    given = {k: v for k, v in {"teacher": teacher, "student": student, "output": output}.items() if v}
    if dry_run:
        show_plan(console, "distill", preview(session, ["distill"], given))
        return
    with working(console, session, ["distill"], given):
        show_steps(console, "distill", session, [distill_step(session, **given)])
