"""``idsnn run --seeds --vary``: a grid of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.jobs import Shared
from idsnn_cli.cli.opening import recipe_words, run_of
from idsnn_cli.recipe import device_words

if TYPE_CHECKING:
    from idsnn_cli.pipeline.run import CellDone


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
    shared: Shared,
) -> None:
    """Run, continue or preview every run of the grid, and show what each came to, by or beside other processes as
    ``shared`` says."""
    from idsnn_cli.pipeline.grid import Grid
    from idsnn_cli.pipeline.run import CellDone, GridDone, summary
    from idsnn_cli.recipe import LoadedRecipe, make_cells
    from idsnn_cli.training import is_main, process_group

    word, overrides = recipe_words(words)
    cells = make_cells(word, [*overrides, *device_words(device)], seeds, vary)

    def open_cell(loaded: LoadedRecipe, folder: Path) -> Any:
        return run_of(console, loaded, folder, force=force)

    grid = Grid(run_dir or Path("runs") / cells[0].loaded.name, cells, open_cell)
    if dry_run:
        _show_plan(console, grid.folder, grid.preview())
        return
    with process_group(grid.run_of(cells[0]).workspace.device):
        console.main = is_main()
        grid.check()
        if shared.started and not grid.is_recorded():
            varied = [word for each in vary for word in ("--vary", each)]
            told = [*(words or []), *([] if seeds is None else ["--seeds", seeds]), *varied]
            shared.start(console, told, device, grid.folder, len(cells))
        done = []
        walk = grid.run_jointly(wait=shared.wait) if shared.share else grid.run()
        for number, (cell, run, results) in enumerate(walk, 1):
            done.append(CellDone(cell.name, tuple(results), tuple(summary(results))))
            top1 = {row.name: row.top1 for row in done[-1].summary}
            console.say(f"{number} of {len(cells)}: {run.path}, student {top1['student']:.2f} %")
        # Those that another process held came last.
        order = {cell.name: place for place, cell in enumerate(cells)}
        done.sort(key=lambda each: order[each.run])
        console.document({"command": "run", **GridDone(str(grid.folder), tuple(done)).to_dict()})
        _show_runs(console, grid.folder, done)


def _show_runs(console: Console, folder: Path, done: list[CellDone]) -> None:
    tops = [{row.name: row.top1 for row in each.summary} for each in done]
    there = dict.fromkeys(name for top in tops for name in top)
    first = [name for name in ("teacher", "pretrain", "baseline", "student") if name in there]
    # Behind the student stands what further steps make of it.
    shown = list(dict.fromkeys([*first, *there]))
    rows = [[each.run, *(top.get(name) for name in shown)] for each, top in zip(done, tops, strict=True)]
    console.table(["run", *(f"{name} top-1 %" for name in shown)], rows)
    console.line(f"Next: idsnn report {folder}")


def _show_plan(console: Console, folder: Path, plans: list[dict[str, Any]]) -> None:
    from idsnn_cli.pipeline.steps.base import all_steps

    console.document({"command": "run", "dry_run": True, "run_dir": str(folder), "grid": plans})
    console.line(f"run {plans[0]['recipe']}: {len(plans)} runs in {folder}")
    for plan in plans:
        steps = ", ".join(f"{step['step']} ({step['recorded']})" for step in plan["steps"])
        shared = "".join(f"; {step.name} from {plan[step.name]}" for step in all_steps() if plan.get(step.name))
        console.line(f"{plan['run']}: {steps}{shared}")
