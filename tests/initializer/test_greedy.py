"""The rule greedy against a search that builds and runs every truncated network whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from running import DEEP, OPTION_A, PREACTIVATION, described, labelled, running, state_of
from sources import spiking
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import UsageError
from idsnn_cli.initializer import reestimate
from idsnn_cli.initializer.greedy import greedy_blocks
from idsnn_cli.models import Model, build

BATCHES = labelled((10, 14), pixels=16)
Lists = tuple[tuple[int, ...], ...]


def cut(architecture: Architecture, lists: Lists) -> Model:
    """A network of the listed blocks alone."""
    state, taken = state_of(architecture), dict[str, Tensor]()
    model = build(architecture.changed(depths=tuple(map(len, lists))), seed=0).double()
    for name in model.state_dict():
        parts = name.split(".")
        if parts[0] == "stages":
            parts[2] = str(lists[int(parts[1])][int(parts[2])])
        taken[name] = state[".".join(parts)]
    model.load_state_dict(taken)
    return model.eval()


@torch.no_grad()
def score(model: Model) -> tuple[int, float]:
    reestimate(model, [images for images, _ in BATCHES])
    logits, labels = torch.cat([model(images) for images, _ in BATCHES]), torch.cat([each for _, each in BATCHES])
    return int((logits.argmax(1) == labels).sum()), float(F.cross_entropy(logits, labels))


def searched(architecture: Architecture, depths: Sequence[int], fixed: set[tuple[int, int]]) -> tuple[Lists, list[str]]:
    lists: Lists = tuple(tuple(range(depth)) for depth in architecture.depths)
    lines = []
    while any(len(blocks) > want for blocks, want in zip(lists, depths, strict=False)):
        found = []
        for stage, blocks in enumerate(lists[: len(depths)]):
            for block in blocks:
                if len(blocks) > depths[stage] and (stage, block) not in fixed:
                    less = tuple(tuple(b for b in each if (s, b) != (stage, block)) for s, each in enumerate(lists))
                    correct, loss = score(cut(architecture, less))
                    found.append((-correct, loss, -stage, -block, less))
        best = min(found)
        lists = best[4]
        lines.append(
            f"without block {-best[2]}.{-best[3]}: {-100 * best[0] / 24:.2f} % of 24 images, loss {best[1]:.4f}"
        )
    return lists[: len(depths)], lines


@pytest.mark.parametrize(
    ("architecture", "depths", "fixed"),
    [
        (OPTION_A.changed(depths=(3, 2, 3)), (1, 1, 2), {(1, 0), (2, 0)}),
        (DEEP.changed(depths=(2, 3)), (1, 1), {(1, 0)}),
        (PREACTIVATION.changed(depths=(3, 3)), (2, 1), {(1, 0)}),
        (described("bottleneck", (3, 3), (2, 3), inner_widths=(4, 4), groups=2), (1, 5), {(0, 0), (1, 0)}),
        (OPTION_A.changed(depths=(2, 2, 2)), (1, 1), {(1, 0)}),
        (OPTION_A, (4, 4, 4, 4), set()),
    ],
)
def test_the_search_is_the_plain_one(
    architecture: Architecture, depths: tuple[int, ...], fixed: set[tuple[int, int]]
) -> None:
    model, said = running(architecture), list[str]()
    found = greedy_blocks(model, depths, BATCHES, said.append)
    wanted, lines = searched(architecture, depths, fixed)
    assert found == wanted
    assert said == lines
    for blocks, have, want in zip(found, architecture.depths, depths, strict=False):
        assert list(blocks) == sorted(set(blocks))
        assert len(blocks) == min(have, want)


def test_the_model_is_left_as_it_was() -> None:
    model = running(OPTION_A).train()
    before = copy.deepcopy(model.state_dict())
    greedy_blocks(model, (1, 1, 1), BATCHES)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.stride() == before[name].stride() for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_of_equal_blocks_the_later_one_goes() -> None:
    """Blocks whose branch gives nothing can all go without any loss."""
    model = running(described("bottleneck", (4, 1), (2, 3)))
    with torch.no_grad():
        for block in (1, 2, 3):
            norm = model.get_submodule(f"stages.0.{block}.norm2")
            norm.get_parameter("weight").zero_()
            norm.get_parameter("bias").zero_()
    said: list[str] = []
    assert greedy_blocks(model, (2, 1), BATCHES, said.append)[0] == (0, 1)
    assert [line.split(":")[0] for line in said] == ["without block 0.3", "without block 0.2"]


@pytest.mark.parametrize("batches", [[], [(torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.int64))]])
def test_images_are_needed(batches: list[tuple[Tensor, Tensor]]) -> None:
    with pytest.raises(UsageError, match="blocks: greedy"):
        greedy_blocks(running(OPTION_A), (1, 1, 1), batches)


def test_labels_must_be_the_models_classes() -> None:
    with pytest.raises(UsageError, match="label 5, but the source has 5 classes"):
        greedy_blocks(running(OPTION_A), (1, 1, 1), [(BATCHES[0][0], torch.full((10,), 5))])


def test_a_spiking_network_is_refused() -> None:
    with pytest.raises(UsageError, match="spiking"):
        greedy_blocks(build(spiking(8, 4), 0), (1, 1, 1), BATCHES)
