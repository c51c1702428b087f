"""A student's first weights, from a source network or from nowhere, and how they came about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from idsnn_cli.architecture import Architecture
from idsnn_cli.data import calibration_batches, drawn_batches
from idsnn_cli.initializer import (
    Conversion,
    Initialization,
    Plan,
    calibrate,
    count_values,
    initialize,
    looks_at_images,
    random_plan,
    reestimate,
)
from idsnn_cli.initializer.plan import Entry
from idsnn_cli.models import Model, build
from idsnn_cli.pipeline.class_order import reordered
from idsnn_cli.pipeline.requirements import check_head
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import Given, step
from idsnn_cli.pipeline.steps.base import Plan as StepPlan
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe.schema import Init
from idsnn_cli.rules import Rules
from idsnn_cli.seeding import derive_seed
from idsnn_cli.sources.names import Source, provenance_of
from idsnn_cli.sources.opened import require
from idsnn_cli.spiking.precision import computing

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class FirstWeights:
    """``state`` is the canonical state dict, ``provenance`` what a checkpoint says of it."""

    state: State
    plan: Plan
    provenance: dict[str, Any] = field(default_factory=dict)


def needs_data(init: Init) -> bool:
    """Whether the data may have a part in the first weights, as far as the recipe alone tells."""
    return init.rule == "none" or init.looks_at_images


def looked_at_data(init: Init, plan: Plan) -> bool:
    """Whether the data has had a part: rule ``merge`` looks at images only where the plan merges channels."""
    merged = any(chosen.merges and chosen.target != "input" for chosen in plan.selections)
    return init.rule == "none" or init.reestimate > 0 or init.calibrate > 0 or init.rules().always_looks or merged


def first_weights(workspace: Workspace, origin: Source | None, rules: Rules) -> FirstWeights:
    """The student's, from ``origin`` by ``rules``, or random without one; then what makes them fit for spikes."""
    recipe = workspace.recipe
    architecture = recipe.student.architecture(workspace.num_classes, workspace.in_channels)
    provenance: dict[str, Any] = {"rule": recipe.init.rule}
    conversion: Conversion | None = None
    if origin is None:
        model = build(architecture, derive_seed(recipe.seed, "init", "weights"), recipe.init.random)
        model.set_normalisation(workspace.data.mean, workspace.data.std)
        plan = random_plan(architecture)
        state = model.state_dict()
    else:
        found, of_source = mapped(workspace, origin, architecture, rules)
        plan, state, conversion = found.plan, found.state, found.conversion
        provenance |= of_source
    if recipe.init.reestimate:
        state, plan = _reestimated(workspace, architecture, state, plan)
        provenance["reestimated_batches"] = recipe.init.reestimate
    if recipe.init.calibrate and conversion is not None:
        state, plan = _calibrated(workspace, architecture, state, plan, conversion)
        provenance["calibrated_batches"] = recipe.init.calibrate
    return FirstWeights(state, plan, provenance)


def mapped(
    workspace: Workspace, origin: Source, architecture: Architecture, rules: Rules
) -> tuple[Initialization, dict[str, Any]]:
    """``architecture`` started from ``origin`` by ``rules``, and what a checkpoint's provenance says of the source."""
    settled = workspace.settle_normalisation(origin)
    workspace.settle_option_a(origin)
    with workspace.open(origin) as opened:
        check_head(workspace, origin, rules)
        if {_shortcut(opened.architecture), _shortcut(architecture)} == {"pad", "pad-end"}:
            theirs = _shortcut(opened.architecture)
            workspace.say(
                f"{origin} and the student put the zeros of option A in other places, so that shortcuts carry channels "
                f"elsewhere; student.shortcut={theirs} keeps them"
            )
        looks = rules.looks_at_activations and looks_at_images(rules, opened.network, architecture)
        found = initialize(
            reordered(opened.network, workspace.class_order(origin)),
            architecture,
            rules=rules,
            normalise=settled.values,
            bottleneck_stride=workspace.bottleneck_stride,
            images=_images(workspace) if looks else None,
            seed=derive_seed(workspace.recipe.seed, "init", "weights"),
            device=workspace.device,
            say=workspace.say,
        )
        given = workspace.normalisation_words(opened.architecture.in_channels)
        for words in opened.remarks():
            workspace.say(f"{origin}: {words}")
    if workspace.takes_events_for(origin):
        found = _of_events(workspace, found)
    provenance = {
        "source_scheme": found.scheme,
        "source_tensors_sha256": found.source_sha256,
        "dropped": dict(found.dropped),
        **settled.provenance(),
        **provenance_of(origin),
    }
    if found.certainty is not None:
        provenance["source_certainty"] = asdict(found.certainty)
    if found.normalisation_given and settled.verdict is None and not workspace.takes_events_for(origin):
        workspace.say(f"{origin} does not carry its input normalisation; the student gets {given}")
    return found, provenance


def _of_events(workspace: Workspace, found: Initialization) -> Initialization:
    """``found`` with the normalisation of the data's events, for that of images would show no event as something."""
    workspace.say_once("the source's images are no events: the student normalises as measured on the data's")
    data, state = workspace.data, dict(found.state)
    for name, values in (("input.mean", data.mean), ("input.std", data.std)):
        state[name] = torch.tensor(values, dtype=state[name].dtype).view(state[name].shape)
    entries = tuple(
        Entry(entry.target, entry.shape, "constant", reason="the data's: events, which the source never saw")
        if entry.target in ("input.mean", "input.std")
        else entry
        for entry in found.plan.entries
    )
    return replace(found, state=state, plan=replace(found.plan, entries=entries))


def _shortcut(architecture: Architecture) -> str | None:
    return architecture.name_options().get("shortcut")


def _images(workspace: Workspace) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The training images that a rule shows to the source, in batches, without augmentation."""
    recipe, seed = workspace.recipe, derive_seed(workspace.recipe.seed, "init", "images")
    count, size = recipe.init.images, recipe.distill.batch_size
    return list(drawn_batches(workspace.data.train, count, size, seed, workspace.device))


def _reestimated(workspace: Workspace, architecture: Architecture, state: State, plan: Plan) -> tuple[State, Plan]:
    model = _running(workspace, architecture, state)
    with computing(workspace.precision, workspace.device):
        used = reestimate(model, _batches(workspace, "calibration", workspace.recipe.init.reestimate))
    reason = f"re-estimated on {used} training batches"
    entries = tuple(
        replace(entry, reason=reason) if entry.target.endswith(("running_mean", "running_var")) else entry
        for entry in plan.entries
    )
    return model.state_dict(), replace(plan, entries=entries)


def _calibrated(
    workspace: Workspace, architecture: Architecture, state: State, plan: Plan, conversion: Conversion
) -> tuple[State, Plan]:
    """The converted student with corrected betas; the plan's betas say so."""
    model = _running(workspace, architecture, state)
    batches = list(_batches(workspace, "biases", workspace.recipe.init.calibrate))
    calibrate(model, conversion, batches)
    reason = f"calibrated on {len(batches)} training batches"
    acts = [f"{conv.norm}.bias" for conv in architecture.activation_layers().values()]
    entries = tuple(replace(entry, reason=reason) if entry.target in acts else entry for entry in plan.entries)
    return model.state_dict(), replace(plan, entries=entries)


def _running(workspace: Workspace, architecture: Architecture, state: State) -> Model:
    model = build(architecture, 0)
    model.load_state_dict(state)
    return model.to(workspace.device)


def _batches(workspace: Workspace, name: str, count: int) -> Iterator[torch.Tensor]:
    """``count`` batches of training images without augmentation, drawn by ``name``."""
    seed = derive_seed(workspace.recipe.seed, "init", name)
    size = workspace.recipe.distill.batch_size
    return calibration_batches(workspace.data.train, size, count, seed, workspace.device)


def shape_source(run: RunDirectory) -> Source:
    """The network that the rules of ``init`` map from where the command line names none."""
    return run.workspace.recipe.init.source or step("teacher").kept(run)


def origin_of(run: RunDirectory, given: Given) -> Source | None:
    """The network that the student starts from; None for a random start."""
    recipe = run.workspace.recipe
    if recipe.init.rule == "none":
        return None
    return given.teacher or (step("pretrain").kept(run) if recipe.pretrain.epochs else shape_source(run))


def is_pretrained(run: RunDirectory, origin: Source) -> bool:
    """Whether ``origin`` is the run's own ANN of the student's shape."""
    return run.workspace.recipe.pretrain.epochs > 0 and origin == step("pretrain").kept(run)


def rules_from(run: RunDirectory, origin: Source) -> Rules:
    """How ``origin`` becomes the student. All that an ANN of its shape has is copied: the rules of blocks, channels,
    kernels and the linear layer had their part in it. What makes weights fit for spikes still comes.
    """
    rules = run.workspace.recipe.init.rules()
    if not is_pretrained(run, origin):
        return rules
    return rules.for_own_shape()


def where_from(run: RunDirectory, origin: Source) -> str:
    """What to do where ``origin`` is not there."""
    if is_pretrained(run, origin):
        return "Run `idsnn pretrain` first, or set pretrain.epochs=0."
    return "Run `idsnn teacher` first, or name a checkpoint with --teacher FILE or init.source=FILE."


def count_mapping(
    run: RunDirectory, plan: StepPlan, target: Architecture, origin: Source | None, rules: Rules | None = None
) -> None:
    """Add to ``plan`` how many of the values of ``target`` the initializer would copy, interpolate and leave random.

    Without ``origin`` it is the teacher, planned or already there; a source that is not the teacher joins the plan's
    networks. ``rules`` are those of the origin unless they are given. What is counted first stands.
    """
    if plan.mapping is not None:
        return
    workspace = run.workspace
    if origin is None and "teacher" in plan.networks:
        teacher = plan.networks["teacher"]
        tensors = {name: name for name in teacher.tensors()}
        plan.mapping = count_values(teacher, target, tensors, rules or workspace.recipe.init.rules())
        return
    origin = origin or step("teacher").kept(run)
    require(origin, "the network to start from", where_from(run, origin))
    check_head(workspace, origin, rules or rules_from(run, origin))
    with workspace.open(origin, download=False) as opened:
        network = opened.network
        plan.networks["source"] = network.architecture
        plan.mapping = count_values(network.architecture, target, network.all_names, rules or rules_from(run, origin))
