"""``idsnn run``."""

from __future__ import annotations

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Device, DryRun, Force, Json, Quiet, RunDir, Words


def run(
    words: Words = None,
    run_dir: RunDir = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Teacher, init, distill and eval in order, going on where a killed run stopped."""
    from idsnn_cli.cli.session import make_session, working
    from idsnn_cli.cli.show import show_plan, show_summary
    from idsnn_cli.pipeline import preview, run_all, steps_of_run, summary

    console = Console(as_json=as_json, quiet=quiet)
    session = make_session(console, words, run_dir=run_dir, device=device, force=force)
    steps = steps_of_run(session)
    if dry_run:
        show_plan(console, "run", preview(session, steps, {}))
        return
    with working(console, session, steps, {}):
        results = run_all(session)
        rows = summary(results)
        console.document(
            {
                "command": "run",
                "run_dir": str(session.run_dir),
                "steps": [result.to_dict() for result in results],
                "summary": rows,
            }
        )
        if rows:
            show_summary(console, session, rows)
