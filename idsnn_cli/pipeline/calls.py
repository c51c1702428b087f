"""Commands as calls from Python: ``distill``, ``convert``, ``evaluate`` and ``evaluate_run`` do what the commands do.

The command line calls them and shows what they return; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from idsnn_cli.architecture import BottleneckStride
from idsnn_cli.checkpoint import write_bytes, write_json
from idsnn_cli.errors import UsageError
from idsnn_cli.evaluation.document import EvaluationDocument, read_evaluation
from idsnn_cli.families import OptionA, Weights
from idsnn_cli.models.identify import MeanStd
from idsnn_cli.outputs import check_output
from idsnn_cli.pipeline.converting import estimate, recipe_of
from idsnn_cli.pipeline.measuring import check_document, check_report, evaluate_networks, write_report
from idsnn_cli.pipeline.preview import check
from idsnn_cli.pipeline.run import RunDone, run_all, summary
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.standalone import Request, measuring_workspace
from idsnn_cli.pipeline.steps.base import Given, Step, StepsDone, step, steps_of_run
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import LoadedRecipe, device_words, load_recipe, measure_words
from idsnn_cli.sources.names import Published, Source, as_source
from idsnn_cli.text import well_formed
from idsnn_cli.training import Events, is_main, process_group

AnyPath = str | Path


@contextmanager
def _as_before() -> Iterator[None]:
    """Give the caller's process back what a recipe may set for the whole of it: threads, and how a GPU's convolutions
    are chosen and rounded.
    """
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    chosen = (cudnn.benchmark, cudnn.allow_tf32) if torch.cuda.is_available() else None
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if chosen is not None:
            cudnn.benchmark, cudnn.allow_tf32 = chosen


@_as_before()
def distill(
    recipe: AnyPath,
    overrides: Sequence[str] = (),
    *,
    run_dir: AnyPath | None = None,
    teacher: str | Source | None = None,
    student: AnyPath | None = None,
    output: AnyPath | None = None,
    device: str | None = None,
    force: bool = False,
    events: Events | None = None,
) -> StepsDone:
    """Train a student from its first weights, against the teacher where its loss reads one, as ``idsnn distill`` does.

    ``recipe`` is the name of one that ships or a path, ``overrides`` are words ``section.key=value``. ``run_dir``
    (``runs/`` and the recipe's name) holds the teacher and the first weights, unless ``teacher`` and ``student`` name
    others, and gets ``student.safetensors``, unless ``output`` names another. A training that was stopped goes on; one
    that is done is left, and its status is ``unchanged``; ``force`` starts it anew. ``device`` is that of a recipe
    (``auto``, ``cpu``, ``cuda:N``, ``mps``), and ``events`` hear of the epochs. The figures of the only step of the
    result are those of the last epoch: ``top1`` in percent, ``train_seconds``. Raises what the command tells:
    :class:`RecipeError`, :class:`MissingInputError`, :class:`RunConflictError` for a step of other settings,
    :class:`RunLockedError` where another process works there, :class:`InterruptedRun` after SIGINT, its state saved.
    """
    run = open_run(recipe, overrides, run_dir=run_dir, device=device, force=force, events=events)
    return do_alone("distill", run, given(teacher=teacher, student=student, output=output))


@_as_before()
def convert(
    checkpoint: str | Source,
    data: str,
    *,
    timesteps: int = 4,
    normalise: str = "auto",
    option_a: OptionA | None = None,
    overrides: Sequence[str] = (),
    run_dir: AnyPath | None = None,
    output: AnyPath | None = None,
    device: str | None = None,
    force: bool = False,
    events: Events | None = None,
) -> RunDone:
    """From a ResNet to a measured Spiking ResNet of its shape, as ``idsnn convert`` does.

    ``checkpoint`` is a file or a published network's name; ``data`` names the images (``cifar10``, ``npz:FILE``,
    ``folder:DIR``). It is quantised to ``timesteps`` levels, made spike, trained and measured by the preset
    ``presets/lossless`` with ``overrides`` on top, in ``run_dir`` (``runs/convert-`` and its name), where a run that
    was stopped goes on. ``normalise`` says what it was trained with (``auto`` finds it from the images), ``option_a``
    where its shortcuts without weights put their zeros. ``output`` gets the student, too; it is replaced only with
    ``force``, which also starts the steps anew. The result's ``summary`` has the accuracies in percent. Raises
    :class:`MappingError` for a network whose shape no student has, :class:`UsageError`, and what a run raises.
    """
    if output is not None:
        check_output(Path(output), force=force, reads=[checkpoint])
    run = open_conversion(
        checkpoint,
        data,
        timesteps=timesteps,
        normalise=normalise,
        option_a=option_a,
        overrides=overrides,
        run_dir=run_dir,
        device=device,
        force=force,
        events=events,
    )
    if output is not None:
        require_elsewhere(run, Path(output))
    with working(run, steps_of_run(run.workspace.recipe)):
        run.workspace.say(estimate(run.workspace).words())
        results = run_all(run)
        if output is not None:
            write_bytes(Path(output), step("distill").kept(run).read_bytes())
        return RunDone(str(run.path), tuple(results), tuple(summary(results)))


@_as_before()
def evaluate(
    checkpoint: str | Source,
    data: str | None = None,
    *,
    measures: Sequence[str] = (),
    timesteps: int | None = None,
    overrides: Sequence[str] = (),
    normalise: str | MeanStd | None = None,
    bottleneck_stride: BottleneckStride | None = None,
    weights: Weights | None = None,
    allow_unused: bool = False,
    scheme: AnyPath | None = None,
    kind: Literal["ann", "spiking"] | None = None,
    root: str | None = None,
    levels: int | None = None,
    option_a: OptionA | None = None,
    output: AnyPath | None = None,
    report: AnyPath | None = None,
    device: str | None = None,
    events: Events | None = None,
) -> EvaluationDocument:
    """Measure any network, ours or of others, as ``idsnn eval --checkpoint`` does.

    ``checkpoint`` is a file or a published network's name; ``data`` (``NAME`` or ``NAME:PATH``) the images, by default
    those of the recipe that a checkpoint of ours carries. ``measures`` are those beside accuracy and loss, and
    ``timesteps`` is the number of steps, above its T, up to which a student is measured. ``normalise`` (a name,
    ``auto``, or mean and standard deviation of images in 0 to 1) and the others say of a foreign file what
    :func:`idsnn_cli.load` is told of it; ``kind="spiking"`` goes with ``student.timesteps=T`` and others among
    ``overrides``. ``output`` gets the JSON document, which is the result's ``to_dict()``, and the folder ``report`` a
    page with plots. Accuracies are percent, the loss is in nats. Raises :class:`UsageError` where no images are named
    or what is said speaks against the file, :class:`MissingInputError`, :class:`DataError`, :class:`CheckpointError` or
    :class:`FamilyError`.
    """
    told: dict[str, Any] = {
        "normalise": normalise if normalise is None or isinstance(normalise, str) else _mean_std(normalise),
        "bottleneck_stride": bottleneck_stride,
        "weights": weights,
        "allow_unused": allow_unused or None,
        "scheme": None if scheme is None else str(scheme),
        "kind": kind,
        "root": root,
        "levels": levels,
        "option_a": option_a,
    }
    foreign = {key: value for key, value in told.items() if value is not None}
    source, words = as_source(checkpoint), [*overrides, *measure_words(measures, timesteps)]
    request = Request(source, "--checkpoint", words, foreign, events or Events())
    workspace = measuring_workspace(request, data, device_words(device))
    workspace.settle_process()
    if output is not None:
        check_document(Path(output))
    if report is not None:
        check_report(Path(report))
    document = evaluate_networks(workspace, {source.name: source})
    if output is not None:
        write_json(Path(output), well_formed(document))
    if report is not None:
        write_report(Path(report), document)
    return read_evaluation(document)


@_as_before()
def evaluate_run(
    recipe: AnyPath,
    overrides: Sequence[str] = (),
    *,
    measures: Sequence[str] = (),
    timesteps: int | None = None,
    run_dir: AnyPath | None = None,
    student: AnyPath | None = None,
    output: AnyPath | None = None,
    report: AnyPath | None = None,
    device: str | None = None,
    events: Events | None = None,
) -> StepsDone:
    """Measure the networks of a run into ``RUN/eval.json``, as ``idsnn eval RECIPE`` does.

    ``recipe``, ``overrides``, ``run_dir``, ``device`` and ``events`` are as for :func:`distill`, ``measures``,
    ``timesteps`` and ``report`` as for :func:`evaluate`. ``student`` is measured instead of the run's, and ``output``
    is written instead of ``RUN/eval.json``. The figures of the result's only step are the document (docs/json.md).
    Raises :class:`MissingInputError` where there is no student yet, and what :func:`distill` raises.
    """
    words = [*overrides, *measure_words(measures, timesteps)]
    run = open_run(recipe, words, run_dir=run_dir, device=device, events=events)
    return do_alone("eval", run, given(student=student, output=output, report=report))


# What these calls and the command line have in common


def open_run(
    recipe: AnyPath,
    overrides: Sequence[str] = (),
    *,
    run_dir: AnyPath | None = None,
    device: str | None = None,
    force: bool = False,
    events: Events | None = None,
) -> RunDirectory:
    """The run of a recipe, of which nothing is made yet. Raises :class:`UsageError` for what names no recipe."""
    if not isinstance(recipe, str | Path):
        raise UsageError(f"a recipe is named by a {type(recipe).__name__}", "Give the name of one, or its path.")
    loaded = load_recipe(recipe, [*overrides, *device_words(device)])
    return run_of(loaded, Path(run_dir or Path("runs") / loaded.name), force=force, events=events)


def open_conversion(
    checkpoint: str | Source,
    data: str,
    *,
    timesteps: int = 4,
    normalise: str = "auto",
    option_a: OptionA | None = None,
    overrides: Sequence[str] = (),
    run_dir: AnyPath | None = None,
    device: str | None = None,
    force: bool = False,
    events: Events | None = None,
) -> RunDirectory:
    """The run that :func:`convert` would do."""
    source, words = as_source(checkpoint), [*overrides, *device_words(device)]
    name = f"{source.kind}-{source.name}" if isinstance(source, Published) else source.stem
    say = None if events is None else events.say
    loaded = recipe_of(str(checkpoint), data, timesteps, normalise, option_a, words, say)
    run = run_of(loaded, Path(run_dir or Path("runs") / f"convert-{name}"), force=force, events=events)
    return replace(run, command="convert")


def require_elsewhere(run: RunDirectory, output: Path) -> None:
    """Raise :class:`UsageError` where the copy of the student would replace a file that is the run's own."""
    if output.resolve().parent == run.path.resolve():
        raise UsageError(
            f"{output} is in the run's own folder, which holds the student anyway", "Give another -o FILE, or none."
        )


def run_of(loaded: LoadedRecipe, folder: Path, *, force: bool = False, events: Events | None = None) -> RunDirectory:
    """The run of a recipe in ``folder``, of whose training ``events`` hear."""
    workspace = Workspace(loaded.recipe, loaded.name, loaded.text, events=events or Events())
    workspace.settle_process()
    return RunDirectory(folder, workspace, force)


def do_alone(name: str, run: RunDirectory, named: Given) -> StepsDone:
    """Do the step ``name`` of ``run``, and no other, with the files that are ``named``."""
    one = step(name)
    with working(run, [one], named):
        return StepsDone(str(run.path), (one.do(run, named),))


def given(**named: str | Source | None) -> Given:
    """Files by their part in a step; ``teacher`` may be published."""
    teacher = named.pop("teacher", None)
    paths = {key: None if each is None else Path(str(each)) for key, each in named.items()}
    return Given(teacher=None if teacher is None else as_source(teacher), **paths)


def _mean_std(values: MeanStd) -> dict[str, list[float]]:
    return {key: [float(each) for each in channels] for key, channels in zip(("mean", "std"), values, strict=True)}


@contextmanager
def working(run: RunDirectory, steps: Sequence[Step], named: Given | None = None) -> Iterator[None]:
    """Hold the run directory and, under torchrun, the process group; the run's events hear whether this is the main
    process.

    What would stop one of ``steps`` raises before the run directory is made.
    """
    with process_group(run.workspace.device):
        run.workspace.events.joined(is_main())
        check(run, steps, named)
        with run.locked():
            yield
