"""``identify``: one answer for every reader, and the file's name in every error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
import torchvision

from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import open_checkpoint, write_checkpoint
from idsnn_cli.errors import CheckpointError, FamilyError
from idsnn_cli.initializer import open_source
from idsnn_cli.models import build, identify, identify_tensors, load
from idsnn_cli.models.identify import _PARTS
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint


def own_file(folder: Path, *, width: int = 4) -> Path:
    model = build(build_description("resnet8", 3, width=4), seed=1)
    path = folder / "own.safetensors"
    described = build_description("resnet8", 3, width=width)
    write_checkpoint(path, model.state_dict() | {"extra": torch.zeros(2)}, {"architecture": described.to_dict()})
    return path


def test_a_foreign_file_and_its_state_dict_are_the_same_network(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None, num_classes=3).state_dict()
    path = tmp_path / "theirs.pth"
    torch.save(state, path)
    given = identify_tensors({key: tuple(value.shape) for key, value in state.items()}, state.__getitem__)
    with open_checkpoint(path) as file:
        found = identify(file)
        assert (found.architecture, found.names, found.unknown) == (given.architecture, given.names, given.unknown)
        assert found.has_head
        assert not found.described
        assert torch.equal(found.read(found.names["head.weight"]), state["fc.weight"])
        with ExitStack() as stack:
            assert open_source(path, stack).names == found.names


def test_our_own_description_is_believed_and_what_it_lacks_is_dropped(tmp_path: Path) -> None:
    with open_checkpoint(own_file(tmp_path)) as file:
        found = identify(file)
    assert found.described
    assert set(found.names) == set(found.architecture.tensors())
    assert found.dropped == {"extra": "the architecture has no such tensor"}


@pytest.mark.parametrize("reader", [load, describe_checkpoint, lambda path: open_source(path, ExitStack())])
@pytest.mark.parametrize(
    ("traits", "lost"),
    [
        ({"learn_start": "channel"}, "start_shift"),
        ({"learn_decay": "layer"}, "decay_logit"),
        ({"amplitude": "channel"}, "amplitude0"),
        ({"spiking_block": "ms", "amplitude": "folded-layer"}, "gain"),
    ],
)
def test_tensors_within_the_network_that_its_description_lacks_are_refused(
    tmp_path: Path, traits: dict[str, str], lost: str, reader: Callable[[Path], object]
) -> None:
    """Or a network would be read without what it learnt, and give other logits without a word."""
    model = build(build_description("spiking-resnet8", 3, width=4, **traits), seed=1)
    plain = {key: value for key, value in traits.items() if key == "spiking_block"}
    described = build_description("spiking-resnet8", 3, width=4, **plain)
    path = tmp_path / "edited.safetensors"
    write_checkpoint(path, model.state_dict(), {"architecture": described.to_dict()})
    with pytest.raises(CheckpointError, match=f"edited.safetensors holds .*{lost}.*its architecture says nothing"):
        reader(path)


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("resnet18", {"stem": "7x7"}),
        ("resnet18", {"preactivation": True}),
        ("vgg11", {}),
        ("spiking-vgg11", {"head_widths": (12,), "amplitude": "folded-layer", "learn_start": "channel"}),
        ("spiking-resnet8", {"spiking_block": "ms", "amplitude": "folded-layer", "learn_start": "channel"}),
        ("spiking-resnet50", {"spiking_block": "sew", "learn_decay": "layer"}),
    ],
)
def test_the_parts_that_are_looked_at_are_all_there_are(name: str, traits: dict[str, object]) -> None:
    """Or a new part's tensors could be left out of a description without a word."""
    assert {each.partition(".")[0] for each in build_description(name, 3, **traits).tensors()} <= set(_PARTS)


def test_a_stage_that_the_description_lacks_is_refused(tmp_path: Path) -> None:
    described = build_description("resnet8", 3, width=4)
    state = {**build(described, seed=1).state_dict(), "stages.9.conv.weight": torch.zeros(2)}
    path = tmp_path / "more.safetensors"
    write_checkpoint(path, state, {"architecture": described.to_dict()})
    with pytest.raises(CheckpointError, match=r"more\.safetensors holds 'stages\.9\.conv' \(weight\), of which"):
        describe_checkpoint(path).to_dict()


@pytest.mark.parametrize("reader", [load, describe_checkpoint, lambda path: open_source(path, ExitStack())])
def test_every_reader_names_the_file_and_says_the_same(tmp_path: Path, reader: object) -> None:
    assert callable(reader)
    path = tmp_path / "alien.pth"
    torch.save({"encoder.layer.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(FamilyError) as caught:
        reader(path)
    assert caught.value.message.startswith(f"{path}: not a ResNet")
    with pytest.raises(CheckpointError, match="disagree") as clash:
        reader(own_file(tmp_path, width=8))
    assert str(tmp_path / "own.safetensors") in clash.value.message


def test_canonical_names_without_a_description_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    write_checkpoint(path, build(build_description("resnet8", 3, width=4), seed=1).state_dict(), {})
    with open_checkpoint(path) as file:
        assert not identify(file).described
