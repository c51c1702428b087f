"""Which network a run's student starts from, by which rules, and how much of it would be taken."""

from __future__ import annotations

from idsnn_cli.architecture import Architecture
from idsnn_cli.initializer import count_values
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import Given, Plan, step
from idsnn_cli.rules import Rules
from idsnn_cli.sources.names import Source
from idsnn_cli.sources.opened import require


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
    run: RunDirectory, plan: Plan, target: Architecture, origin: Source | None, rules: Rules | None = None
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
    with workspace.open(origin, download=False) as opened:
        network = opened.network
        plan.networks["source"] = network.architecture
        plan.mapping = count_values(network.architecture, target, network.names, rules or rules_from(run, origin))
