"""``--dry-run``: everything resolved and checked, nothing done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from idsnn_cli.architecture import Architecture
from idsnn_cli.pipeline.decisions import protect, refuse_other_settings
from idsnn_cli.pipeline.processes import decided_by_main
from idsnn_cli.pipeline.requirements import check_sizes, foreign_sources, refuse_unread_keys
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import Given, Plan, Step
from idsnn_cli.pipeline.tracking import require_trackers
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.results import Result
from idsnn_cli.sources.names import Download, Published, Source


@dataclass(frozen=True, slots=True)
class PlannedData(Result):
    """The images that a command would read."""

    name: Annotated[str, "the data set's"]
    images: Annotated[dict[str, int], "how many there are of each split"]
    num_classes: Annotated[int | None, "None where only reading the files tells"]
    bytes: Annotated[int, "that the images take in memory"]
    reads: Annotated[tuple[str, ...], "the files"]
    downloads: Annotated[tuple[str, ...], "the addresses of files that are not there"]
    download_mb: Annotated[float, "their size in megabytes"]
    notes: Annotated[tuple[str, ...], "what is worth knowing of them"]


@dataclass(frozen=True, slots=True)
class PlannedDownload(Result):
    """A published network that a command would download."""

    source: Annotated[str, "its name"]
    url: Annotated[str, "its address"]
    megabytes: Annotated[float, "its size, 10^6 bytes each"]


@dataclass(frozen=True, slots=True)
class PlannedNetwork(Result):
    """A network that a command would make or read."""

    architecture: Annotated[str, "in words"]
    parameters: Annotated[int, "trainable values"]


@dataclass(frozen=True, slots=True)
class PlannedStep(Result):
    """A step that a command would do, go on with or leave."""

    step: Annotated[str, "its name"]
    recorded: Annotated[str, "what the run directory says of it: not started, started, replacing or done"]
    writes: Annotated[tuple[str, ...], "the files"]


@dataclass(frozen=True, slots=True)
class Preview(Result):
    """What ``--dry-run`` found."""

    recipe: Annotated[str, "its name"]
    run_dir: Annotated[str | None, "the run directory, none of a command that names its files itself"]
    device: Annotated[str, "the device"]
    precision: Annotated[str, "fp32, bf16, fp16 or fp64"]
    data: Annotated[PlannedData | None, "the images, none where none are read"]
    downloads: Annotated[tuple[PlannedDownload, ...], "published networks that are not on this machine"]
    networks: Annotated[dict[str, PlannedNetwork], "every network by its name in the run"]
    mapping: Annotated[dict[str, int] | None, "values of the first weights by how they would come about"]
    steps: Annotated[tuple[PlannedStep, ...], "in the order in which they would be done"]


def preview(run: RunDirectory, steps: Sequence[Step], given: Given | None = None) -> Preview:
    """What the command would read, download and write. Raises the errors that doing it would raise at its start."""
    workspace, given = run.workspace, given or Given()
    refuse_unread_keys(workspace, tuple(steps), given)
    if any(step.section is not None for step in steps):
        require_trackers(workspace.recipe.runtime.track)
    data = _data(workspace)
    records = run.records()
    writes = {step.name: step.outputs(run, given) for step in steps}
    for step in steps:
        if not step.makes_weights:
            continue
        record = records.get(step.name)
        protect(run, step, record, writes[step.name])
        if record is not None and record.status != "replacing" and not run.force:
            refuse_other_settings(run, step, record, step.settings(workspace))
    plan = Plan(tuple(step.name for step in steps))
    for step in steps:
        step.check(run, given, plan)
    check_sizes(workspace, plan.networks)
    return described_preview(
        workspace,
        plan,
        foreign_sources(workspace.recipe, tuple(steps), given),
        [
            PlannedStep(
                step.name,
                records[step.name].status if step.name in records else "not started",
                tuple(str(path) for path in writes[step.name].values()),
            )
            for step in steps
        ],
        data=data,
        run_dir=run.path,
    )


def described_preview(
    workspace: Workspace,
    plan: Plan,
    sources: Iterable[Source],
    steps: Iterable[PlannedStep],
    *,
    data: PlannedData | None,
    run_dir: Path | None = None,
) -> Preview:
    """What was found out of a command, as its document has it; ``sources`` are the networks that it would read."""
    downloads = [source.needed_download() for source in sources if isinstance(source, Published)]
    return Preview(
        recipe=workspace.name,
        run_dir=None if run_dir is None else str(run_dir),
        device=str(workspace.device),
        precision=workspace.precision,
        data=data,
        downloads=tuple(_download(each) for each in downloads if each is not None),
        networks={name: _network(each) for name, each in plan.networks.items()},
        mapping=plan.mapping,
        steps=tuple(steps),
    )


def planned_data(workspace: Workspace) -> PlannedData | None:
    """The images that the recipe names; None where it names none."""
    return _data(workspace) if workspace.data_given else None


def check(run: RunDirectory, steps: Sequence[Step], given: Given | None = None) -> None:
    """Let what would stop a later step stop the command now, not after hours of training; the main process tells."""

    def look() -> None:
        preview(run, steps, given)
        for source in foreign_sources(run.workspace.recipe, tuple(steps), given or Given()):
            if isinstance(source, Published) or source.exists():
                run.workspace.settle_normalisation(source)

    decided_by_main(look)


def _data(workspace: Workspace) -> PlannedData:
    data = workspace.data_plan
    return PlannedData(
        name=data.name,
        images=dict(data.counts),
        num_classes=data.num_classes,
        bytes=data.image_bytes,
        reads=tuple(str(path) for path in data.files),
        downloads=tuple(data.downloads),
        download_mb=data.download_mb,
        notes=tuple(data.notes),
    )


def _download(each: Download) -> PlannedDownload:
    return PlannedDownload(each.source, each.url, each.megabytes)


def _network(architecture: Architecture) -> PlannedNetwork:
    return PlannedNetwork(architecture.describe(), architecture.parameters())
