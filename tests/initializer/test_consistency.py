"""A network that is widened or narrowed by a consistent rule computes what its index sets say, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from running import (
    ALL,
    BASIC,
    DEEP,
    GROUPED,
    OPTION_A,
    OPTION_A_BEHIND,
    PREACTIVATION,
    PREACTIVATION_50,
    labelled,
    network,
    running,
)
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from idsnn_cli.architecture import Architecture
from idsnn_cli.initializer import Plan, Rules, apply, find, make_plan
from idsnn_cli.models import Model, build
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.spiking import BatchNorm

IMAGES = labelled()[0][0]
SELECTIONS = ["uniform", "importance", "random"]
WIDER = {
    "basic": BASIC.changed(widths=(6, 9, 20)),
    "option A": OPTION_A.changed(widths=(6, 12, 26)),
    "option A, zeros behind": OPTION_A_BEHIND.changed(widths=(6, 12, 26)),
    "grouped": GROUPED.changed(widths=(6, 7), inner_widths=(9, 8), groups=1),
    "pre-activation": PREACTIVATION.changed(widths=(5, 15)),
    "pre-activation bottleneck": PREACTIVATION_50.changed(widths=(3, 4), inner_widths=(7, 20)),
    "deep": DEEP.changed(widths=(9, 7), stem_widths=(5, 12, 9), attention_sizes=(6, 5)),
}
NARROWER = {
    "basic": BASIC.changed(widths=(3, 4, 5)),
    "option A": OPTION_A.changed(widths=(2, 6, 8)),
    "option A, zeros behind": OPTION_A_BEHIND.changed(widths=(2, 6, 8)),
    "grouped": GROUPED.changed(widths=(3, 4), inner_widths=(5, 3), groups=1),
    "pre-activation": PREACTIVATION.changed(widths=(3, 4)),
    "pre-activation bottleneck": PREACTIVATION_50.changed(widths=(1, 3), inner_widths=(4, 5)),
    "deep": DEEP.changed(widths=(3, 5), stem_widths=(2, 3, 3)),
}


def made(model: Model, target: Architecture, **rules: Any) -> tuple[Model, Plan]:
    """``target`` as the rules make it of ``model``, head copied, in evaluation mode."""
    given, source = Rules(head="copy", **rules), network(model)
    found = find(given, source, target, running=lambda: model, batches=labelled())
    plan = make_plan(source.architecture, target, source.names, given, found, seed=3)
    other = build(target, seed=2).double()
    other.load_state_dict(apply(plan, source.read, other.state_dict(), torch.device("cpu")))
    return other.eval(), plan


@torch.no_grad()
def assert_same(model: Model, other: Model) -> None:
    ours, theirs = model(IMAGES), other(IMAGES)
    assert ours.std(0).min() > 0, "the source tells no image from another"
    torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9 * float(ours.abs().max()))


def consistent(*rules: str) -> list[tuple[str, str]]:
    """(kind, rule), without looping over channels that padded shortcuts carry elsewhere."""
    return [(kind, rule) for kind in ALL for rule in rules if not (kind.startswith("option A") and rule == "loop")]


@pytest.mark.parametrize(("kind", "channels"), consistent("loop", "merge", *SELECTIONS))
def test_growth_divided_by_multiplicity_keeps_the_function(kind: str, channels: str) -> None:
    model = running(ALL[kind])
    grown, _ = made(model, WIDER[kind], channels=channels, multiplicity="divide")
    assert_same(model, grown)


def test_merging_widens_evenly() -> None:
    model = running(BASIC)
    (merged, _), (even, _) = (
        made(model, WIDER["basic"], channels=rule, multiplicity="divide") for rule in ("merge", "uniform")
    )
    for name, value in even.state_dict().items():
        assert torch.equal(merged.state_dict()[name], value), name


def test_looping_does_not_fit_option_a() -> None:
    """Target channel c of another width is c mod C, but the padded shortcut carries another channel there."""
    model = running(OPTION_A)
    grown, _ = made(model, WIDER["option A"], channels="loop", multiplicity="divide")
    narrowed, plan = made(model, NARROWER["option A"], channels="loop")
    with torch.no_grad():
        assert float((grown(IMAGES) - model(IMAGES)).abs().max()) > 0.1
        with removing(masking(model, plan)):
            assert float((narrowed(IMAGES) - model(IMAGES)).abs().max()) > 0.1


@pytest.mark.parametrize("rule", ["uniform", "importance"])
@pytest.mark.parametrize(("source", "target"), [(OPTION_A, OPTION_A_BEHIND), (OPTION_A_BEHIND, OPTION_A)])
def test_the_channels_of_one_option_a_are_put_where_the_other_carries_them(
    source: ResNetArchitecture, target: ResNetArchitecture, rule: str
) -> None:
    """Both have the same channels in another order, so the function is the same."""
    model = running(source)
    other, _ = made(model, target, channels=rule)
    assert_same(model, other)


def test_growth_without_dividing_is_another_function() -> None:
    model = running(BASIC)
    grown, _ = made(model, WIDER["basic"], channels="uniform")
    with torch.no_grad():
        assert float((grown(IMAGES) - model(IMAGES)).abs().max()) > 0.1


def streams(model: Model) -> Iterator[tuple[str, nn.Module, str, str]]:
    """(prefix, block, the stream that it reads, the stream that it writes), by the shortcuts that there are."""
    stages = [list(stage.named_children()) for _, stage in model.stages.named_children()]
    stream = "stages.0" if isinstance(stages[0][0][1].shortcut, nn.Identity) else "stem"
    for s, blocks in enumerate(stages):
        for b, block in blocks:
            into, stream = stream, stream if isinstance(block.shortcut, nn.Identity) else f"stages.{s}"
            yield f"stages.{s}.{b}", block, into, stream


def stem_writes(model: Model) -> list[tuple[nn.Module, str]]:
    """The stem's convolutions with their norms, and what each writes."""
    stream = next(streams(model))[2]
    if model.architecture.traits()["stem"] != "deep":
        return [(model.stem, stream)]
    parts = [part for name, part in model.stem.named_children() if name.isdigit()]
    return list(zip(parts, [*(f"stem.{i}" for i in range(len(parts) - 1)), stream], strict=True))


def readers(model: Model) -> Iterator[tuple[nn.Module, str]]:
    """Every module that reads channels, and their space."""
    for i, (part, _) in enumerate(stem_writes(model)):
        yield part.get_submodule("conv"), f"stem.{i - 1}" if i else "input"
    for at, block, into, out in streams(model):
        for i in range(int(block.length)):  # type: ignore[arg-type]  # a plain integer on a module
            yield block.get_submodule(f"conv{i}"), f"{at}.inner{i - 1}" if i else into
        if hasattr(block.shortcut, "conv"):
            yield block.get_submodule("shortcut.conv"), into
        if model.architecture.traits()["attention"] == "se":
            yield block.get_submodule("attention.reduce"), out
        last = out
    yield model.head, last


def writers(model: Model) -> Iterator[tuple[nn.Module, str]]:
    """Every norm (or gate) in front of an activation or a sum, and the space that it writes."""
    architecture = model.architecture
    for part, space in stem_writes(model):
        if hasattr(part, "norm"):
            yield part.get_submodule("norm"), space
    for at, block, _, out in streams(model):
        count = int(block.length)  # type: ignore[arg-type]  # a plain integer on a module
        for i in range(count):
            if architecture.preactivation:
                if i:
                    yield block.get_submodule(f"norm{i}"), f"{at}.inner{i - 1}"
            else:
                yield block.get_submodule(f"norm{i}"), f"{at}.inner{i}" if i < count - 1 else out
        if hasattr(block.shortcut, "norm"):
            yield block.get_submodule("shortcut.norm"), out
        if architecture.traits()["attention"] == "se":
            yield block.get_submodule("attention.expand"), out


def chosen(plan: Plan, space: str, size: int, want: int) -> list[tuple[int, ...]]:
    """What the plan made of a space: its selection, or all or the first channels in order."""
    for each in plan.selections:
        if (each.target, each.source) == (space, space):
            assert each.of == size
            assert len(each.channels) == want
            return list(each.channels)
    assert want <= size
    return [(channel,) for channel in range(want)]


def wanted_size(plan: Plan, space: str) -> int:
    """The target's channels of a space of the same name."""
    parts, target = space.split("."), plan.target
    if parts[0] == "input":
        return 3
    if parts[0] == "stem":
        deep: tuple[int, ...] = target.traits().get("stem_widths", ())
        return deep[int(parts[1])] if len(parts) > 1 else target.stem_convolutions()[-1].out_channels
    if len(parts) == 2:
        return target.stage_channels(int(parts[1]))
    inner: tuple[int, ...] = target.traits().get("inner_widths") or target.traits()["widths"]
    return inner[int(parts[1])]


@contextmanager
def removing(handles: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def masking(model: Model, plan: Plan) -> list[RemovableHandle]:
    """What dropped channels feed is zeroed in the source."""
    handles = []
    for module, space in readers(model):
        size = int(getattr(module, "in_features" if isinstance(module, nn.Linear) else "in_channels"))
        mask = torch.zeros(size, dtype=torch.float64)
        mask[[channel for each in chosen(plan, space, size, wanted_size(plan, space)) for channel in each]] = 1.0

        def masked(_: nn.Module, inputs: tuple[Tensor], mask: Tensor = mask) -> Tensor:
            return inputs[0] * mask.view(-1, *(1,) * (inputs[0].dim() - 2))

        handles.append(module.register_forward_pre_hook(masked))
    return handles


def averaging(model: Model, plan: Plan) -> list[RemovableHandle]:
    """Channels of one group give their mean in the source."""
    handles = []
    for module, space in writers(model):
        size = int(getattr(module, "num_features" if isinstance(module, BatchNorm) else "out_channels"))
        mixing = torch.zeros(size, size, dtype=torch.float64)
        for group in chosen(plan, space, size, wanted_size(plan, space)):
            for channel in group:
                mixing[channel, list(group)] = 1 / len(group)

        def mixed(_: nn.Module, __: Any, maps: Tensor, mixing: Tensor = mixing) -> Tensor:
            return torch.einsum("cd,ndhw->nchw", mixing, maps)

        handles.append(module.register_forward_hook(mixed))
    return handles


@pytest.mark.parametrize(("kind", "channels"), consistent("loop", *SELECTIONS))
def test_narrowing_leaves_out_what_the_dropped_channels_feed(kind: str, channels: str) -> None:
    model = running(ALL[kind])
    narrowed, plan = made(model, NARROWER[kind], channels=channels)
    with removing(masking(model, plan)):
        assert_same(model, narrowed)
    with torch.no_grad():
        assert float((narrowed(IMAGES) - model(IMAGES)).abs().max()) > 1e-3


@pytest.mark.parametrize("channels", SELECTIONS)
def test_wider_in_one_place_and_narrower_in_another(channels: str) -> None:
    model = running(GROUPED)
    other, plan = made(
        model, GROUPED.changed(widths=(5, 5), inner_widths=(3, 17), groups=1), channels=channels, multiplicity="divide"
    )
    with removing(masking(model, plan)):
        assert_same(model, other)


MERGED = {
    "basic": NARROWER["basic"],
    "option A": NARROWER["option A"],
    "option A, zeros behind": NARROWER["option A, zeros behind"],
    "grouped": NARROWER["grouped"],
    "deep": NARROWER["deep"],
    # A stream that several norms read cannot be averaged behind each of them.
    "pre-activation bottleneck": PREACTIVATION_50.changed(inner_widths=(4, 5)),
}


@pytest.mark.parametrize("kind", MERGED)
def test_merging_gives_the_means_of_the_groups(kind: str) -> None:
    model = running(ALL[kind])
    merged, plan = made(model, MERGED[kind], channels="merge")
    assert any(each.merges for each in plan.selections)
    with removing(averaging(model, plan)):
        assert_same(model, merged)
    with torch.no_grad():
        assert float((merged(IMAGES) - model(IMAGES)).abs().max()) > 1e-3


def test_merging_twins_keeps_the_function() -> None:
    """A network grown to twice its width, its repeated channels told apart by nothing, merges to itself."""
    model = running(BASIC)
    grown, _ = made(model, BASIC.changed(widths=(8, 12, 16)), channels="uniform", multiplicity="divide")
    merged, _ = made(grown, BASIC, channels="merge")
    assert_same(model, merged)


def test_a_pre_activation_block_folds_what_stands_between_its_convolutions() -> None:
    """norm0 stays in front; norm1, between the 1x1 and the 3x3, is folded in; norm2 is the one between the two left."""
    target = PREACTIVATION_50.changed(block="basic", widths=(8, 16), inner_widths=(), stem_widths=(2,))
    model = running(PREACTIVATION_50)
    narrowed, plan = made(model, target, channels="uniform")
    entries = {entry.target: entry for entry in plan.entries}
    for stage, block in target.blocks():
        at = f"stages.{stage}.{block}"
        assert entries[f"{at}.norm0.bias"].source == f"{at}.norm0.bias"
        assert entries[f"{at}.norm1.bias"].source == f"{at}.norm2.bias"
        kernel = entries[f"{at}.conv0.weight"].kernel
        assert kernel is not None
        assert kernel.before[0].keys() == (f"{at}.conv0.weight", f"{at}.norm1.weight", f"{at}.norm1.running_var")
    torch.testing.assert_close(
        narrowed.get_parameter("stages.1.1.norm0.weight"), model.get_parameter("stages.1.1.norm0.weight")
    )
    assert torch.isfinite(narrowed(IMAGES)).all()
