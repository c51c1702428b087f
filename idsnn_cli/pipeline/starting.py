"""``init``: the student's first weights, from a source network or from nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import checkpoint_sha256, write_checkpoint, write_json
from idsnn_cli.data import calibration_batches, drawn_batches
from idsnn_cli.initializer import (
    Conversion,
    Initialization,
    Plan,
    calibrate,
    initialize,
    looks_at_images,
    open_source,
    random_plan,
    reestimate,
)
from idsnn_cli.models import ResNet, build
from idsnn_cli.pipeline.foreign import Settled, settle_normalisation
from idsnn_cli.pipeline.inputs import certainty_words, destination, distinct, ensure, reading_of, require
from idsnn_cli.pipeline.making import described, main_step
from idsnn_cli.pipeline.session import Session, StepResult
from idsnn_cli.published import Source
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.schema import MeanStd
from idsnn_cli.rules import Rules
from idsnn_cli.seeding import derive_seed

MAPPING = "mapping.json"


def init_step(session: Session, *, source: Source | None = None, output: Path | None = None) -> StepResult:
    """Give the student its first weights: RUN/init.safetensors and RUN/mapping.json."""
    recipe = session.recipe
    target = destination(session, "init", output)
    mapping = mapping_file(target, output)
    origin = _origin(session, source)
    if source is not None and origin is None:
        session.events.say(f"{source} is not read: init.rule is none")
    elif source is not None and recipe.pretrain.epochs and not is_pretrained(session, source):
        session.events.say(f"{session.kept('pretrain')} is not read: {source} is named instead")
    inputs = {}
    if origin is not None:
        require(origin, "the network to start from", where_from(session, origin))
        distinct(target, origin)
        ensure(session, origin)
        inputs["source"] = checkpoint_sha256(origin)
    if _needs_data(recipe) or (origin is not None and settle_normalisation(session, origin).verdict is not None):
        inputs["data"] = session.data.fingerprint

    def work() -> dict[str, Any]:
        return _write_start(session, origin, target, mapping)

    return main_step(session, "init", inputs, {"init": target, "mapping": mapping}, work)


def _origin(session: Session, source: Source | None) -> Source | None:
    """The network that the student starts from; None for a random start."""
    recipe = session.recipe
    if recipe.init.rule == "none":
        return None
    return source or (session.kept("pretrain") if recipe.pretrain.epochs else source_of(session))


def source_of(session: Session) -> Source:
    """The network that the rules of ``init`` map from where the command line names none."""
    return session.recipe.init.source or session.kept("teacher")


def where_from(session: Session, origin: Source) -> str:
    """What to do where ``origin`` is not there."""
    if is_pretrained(session, origin):
        return "Run `idsnn pretrain` first, or set pretrain.epochs=0."
    return "Run `idsnn teacher` first, or name a checkpoint with --teacher FILE or init.source=FILE."


def is_pretrained(session: Session, origin: Source) -> bool:
    """Whether ``origin`` is the run's own ANN of the student's shape."""
    return session.recipe.pretrain.epochs > 0 and origin == session.kept("pretrain")


def rules_from(session: Session, origin: Source) -> Rules:
    """How ``origin`` becomes the student. All that an ANN of its shape has is copied: the rules of blocks, channels,
    kernels and the linear layer had their part in it. What makes weights fit for spikes still comes.
    """
    rules = session.recipe.init.rules()
    if not is_pretrained(session, origin):
        return rules
    return rules.for_own_shape()


def write_init(session: Session, source: Source, target: Path) -> StepResult:
    """``init`` outside a run directory: the checkpoint alone, which carries the mapping too."""
    distinct(destination(session, "init", target), source)
    ensure(session, source)
    figures = _write_start(session, source, target, None)
    return StepResult("init", "done", (target,), figures)


def plan_start(session: Session, source: Source) -> tuple[dict[str, torch.Tensor], Plan]:
    """The student's first weights from ``source`` and how they came about, as :func:`write_init` would write them."""
    ensure(session, source)
    state, plan, _ = _first_weights(session, source)
    return state, plan


def _write_start(session: Session, origin: Source | None, target: Path, mapping: Path | None) -> dict[str, Any]:
    state, plan, provenance = _first_weights(session, origin)
    of_data = (origin is not None and is_pretrained(session, origin)) or _looked_at_data(session.recipe, plan)
    metadata = described(session, "init", plan.target, provenance, {}, plan, of_data=of_data)
    write_checkpoint(target, state, metadata)
    if mapping is not None:
        write_json(mapping, plan.to_dict() | {"provenance": provenance})
    return {"values": plan.counts()}


def _needs_data(recipe: Recipe) -> bool:
    """Whether the data may have a part in the first weights, as far as the recipe alone tells."""
    return recipe.init.rule == "none" or recipe.init.looks_at_images


def _looked_at_data(recipe: Recipe, plan: Plan) -> bool:
    """Whether the data has had a part: rule ``merge`` looks at images only where the plan merges channels."""
    init = recipe.init
    merged = any(chosen.merges for chosen in plan.selections)
    return init.rule == "none" or init.reestimate > 0 or init.calibrate > 0 or init.rules().always_looks or merged


def _first_weights(session: Session, origin: Source | None) -> tuple[dict[str, torch.Tensor], Plan, dict[str, Any]]:
    recipe = session.recipe
    architecture = recipe.student.architecture(session.num_classes)
    provenance: dict[str, Any] = {"rule": recipe.init.rule}
    conversion: Conversion | None = None
    if origin is None:
        model = build(architecture, derive_seed(recipe.seed, "init", "weights"))
        model.set_normalisation(session.data.mean, session.data.std)
        plan = random_plan(architecture)
        state = model.state_dict()
    else:
        found, of_source = mapped(session, origin, architecture, rules_from(session, origin))
        plan, state, conversion = found.plan, found.state, found.conversion
        provenance |= of_source
    if recipe.init.reestimate:
        state, plan = _reestimated(session, architecture, state, plan)
        provenance["reestimated_batches"] = recipe.init.reestimate
    if recipe.init.calibrate and conversion is not None:
        state, plan = _calibrated(session, architecture, state, plan, conversion)
        provenance["calibrated_batches"] = recipe.init.calibrate
    return state, plan, provenance


def mapped(
    session: Session, origin: Source, architecture: Architecture, rules: Rules
) -> tuple[Initialization, dict[str, Any]]:
    """``architecture`` started from ``origin`` by ``rules``, and what a checkpoint's provenance says of the source."""
    settled = settle_normalisation(session, origin)
    found = _from_source(session, origin, architecture, rules, settled)
    provenance = {
        "source_scheme": found.scheme,
        "source_tensors_sha256": found.source_sha256,
        "dropped": dict(found.dropped),
        **settled.provenance(),
    }
    if found.certainty is not None:
        provenance["source_certainty"] = asdict(found.certainty)
    for words in (found.choice, certainty_words(found.certainty)):
        if words is not None:
            session.events.say(f"{origin}: {words}")
    if found.normalisation_given and settled.verdict is None:
        session.events.say(
            f"{origin} does not carry its input normalisation; the student gets {_normalisation_words(session.recipe)}"
        )
    return found, provenance


def _from_source(
    session: Session, origin: Source, architecture: Architecture, rules: Rules, settled: Settled
) -> Initialization:
    reading = reading_of(origin, session.recipe)
    with ExitStack() as stack:
        looks = rules.looks_at_activations and looks_at_images(rules, open_source(origin, stack, reading), architecture)
    return initialize(
        origin,
        architecture,
        rules=rules,
        normalise=settled.values,
        weights=reading.weights,
        allow_unused=reading.allow_unused,
        scheme=reading.scheme,
        bottleneck_stride=session.recipe.teacher.bottleneck_stride,
        images=_images(session) if looks else None,
        seed=derive_seed(session.recipe.seed, "init", "weights"),
        device=session.device,
        say=session.events.say,
    )


def _images(session: Session) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The training images that a rule shows to the source, in batches, without augmentation."""
    recipe, seed = session.recipe, derive_seed(session.recipe.seed, "init", "images")
    count, size = recipe.init.images, recipe.distill.batch_size
    return list(drawn_batches(session.data.train, count, size, seed, session.device))


def _reestimated(
    session: Session, architecture: Architecture, state: dict[str, torch.Tensor], plan: Plan
) -> tuple[dict[str, torch.Tensor], Plan]:
    model = _running(session, architecture, state)
    used = reestimate(model, _batches(session, "calibration", session.recipe.init.reestimate))
    reason = f"re-estimated on {used} training batches"
    entries = tuple(
        replace(entry, reason=reason) if entry.target.endswith(("running_mean", "running_var")) else entry
        for entry in plan.entries
    )
    return model.state_dict(), replace(plan, entries=entries)


def _calibrated(
    session: Session, architecture: Architecture, state: dict[str, torch.Tensor], plan: Plan, conversion: Conversion
) -> tuple[dict[str, torch.Tensor], Plan]:
    """The converted student with corrected betas; the plan's betas say so."""
    model = _running(session, architecture, state)
    batches = list(_batches(session, "biases", session.recipe.init.calibrate))
    calibrate(model, conversion, batches)
    reason = f"calibrated on {len(batches)} training batches"
    acts = [f"{name.replace('act', 'norm')}.bias" for name, _ in architecture.activations()]
    entries = tuple(replace(entry, reason=reason) if entry.target in acts else entry for entry in plan.entries)
    return model.state_dict(), replace(plan, entries=entries)


def _running(session: Session, architecture: Architecture, state: dict[str, torch.Tensor]) -> ResNet:
    model = build(architecture, 0)
    model.load_state_dict(state)
    return model.to(session.device)


def _batches(session: Session, name: str, count: int) -> Iterator[torch.Tensor]:
    """``count`` batches of training images without augmentation, drawn by ``name``."""
    seed = derive_seed(session.recipe.seed, "init", name)
    return calibration_batches(session.data.train, session.recipe.distill.batch_size, count, seed, session.device)


def mapping_file(target: Path, output: Path | None) -> Path:
    """The mapping beside the student's first weights in ``target``, which ``output`` named if it is given."""
    return target.with_name(MAPPING) if output is None else target.with_suffix(".mapping.json")


def _normalisation_words(recipe: Recipe) -> str:
    chosen = recipe.teacher.normalise
    if chosen is None:
        return "ImageNet's (name another with teacher.normalise)"
    return "the recipe's teacher.normalise" if isinstance(chosen, MeanStd) else f"that of {chosen}"
