"""``idsnn run --seeds --vary``: a grid of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.session import device_override, recipe_words, session_for


def run_grid(
    console: Console,
    words: list[str] | None,
    seeds: str | None,
    vary: list[str],
    *,
    run_dir: Path | None,
    device: str | None,
    force: bool,
    dry_run: bool,
) -> None:
    """Run, continue or preview every run of the grid, and show what each came to."""
    from idsnn_cli.pipeline import Grid, summary
    from idsnn_cli.recipe import LoadedRecipe, make_cells
    from idsnn_cli.training import is_main, process_group

    word, overrides = recipe_words(words)
    cells = make_cells(word, [*overrides, *device_override(device)], seeds, vary)

    def open_session(loaded: LoadedRecipe, folder: Path) -> Any:
        recipe = loaded.recipe
        return session_for(console, recipe, name=loaded.name, text=loaded.text, run_dir=folder, force=force)

    grid = Grid(run_dir or Path("runs") / cells[0].loaded.name, cells, open_session)
    if dry_run:
        _show_plan(console, grid.folder, grid.preview())
        return
    with process_group(grid.session(cells[0]).device):
        console.main = is_main()
        grid.check()
        done = []
        for number, (cell, session, results) in enumerate(grid.run(), 1):
            rows = summary(results)
            top1 = {row["name"]: row["top1"] for row in rows}
            done.append({"run": cell.name, "steps": [result.to_dict() for result in results], "summary": rows})
            console.say(f"{number} of {len(cells)}: {session.run_dir}, student {top1['student']:.2f} %")
        console.document({"command": "run", "run_dir": str(grid.folder), "grid": done})
        _show_runs(console, grid.folder, done)


def _show_runs(console: Console, folder: Path, done: list[dict[str, Any]]) -> None:
    columns = ("teacher", "pretrain", "baseline", "student")
    tops = [{row["name"]: row["top1"] for row in each["summary"]} for each in done]
    shown = [name for name in columns if any(name in top for top in tops)]
    rows = [[each["run"], *(top.get(name) for name in shown)] for each, top in zip(done, tops, strict=True)]
    console.table(["run", *(f"{name} top-1 %" for name in shown)], rows)
    console.line(f"Next: idsnn report {folder}")


def _show_plan(console: Console, folder: Path, plans: list[dict[str, Any]]) -> None:
    console.document({"command": "run", "dry_run": True, "run_dir": str(folder), "grid": plans})
    console.line(f"run {plans[0]['recipe']}: {len(plans)} runs in {folder}")
    for plan in plans:
        steps = ", ".join(f"{step['step']} ({step['recorded']})" for step in plan["steps"])
        shared = "".join(f"; {step} from {plan[step]}" for step in ("teacher", "pretrain", "baseline") if plan[step])
        console.line(f"{plan['run']}: {steps}{shared}")
