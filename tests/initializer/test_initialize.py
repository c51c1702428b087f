"""``initialize``: the same weights from a file, a state dict or a module, and errors for what cannot be."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from sources import ann, spiking, values
from torch import Tensor, nn

import idsnn_cli
from idsnn_cli.checkpoint import tensors_sha256, write_checkpoint
from idsnn_cli.errors import CheckpointError, FamilyError, MappingError, UsageError
from idsnn_cli.initializer import Rules, apply, initialize, open_source, standalone
from idsnn_cli.models import Model, build

FIRST = Rules(blocks="first")


def module_of(state: dict[str, Tensor], depth: int = 14, width: int = 6) -> Model:
    model = build(ann(depth, width), seed=9)
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return values(ann(14, 6))


def written(folder: Path, state: dict[str, Tensor], *, described: bool = True) -> Path:
    path = folder / "source.safetensors"
    write_checkpoint(path, state, {"architecture": ann(14, 6).to_dict()} if described else {"kind": "none"})
    return path


def test_the_hashing_has_a_core_of_its_own_while_tensors_are_made(
    state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, before = list[int](), torch.get_num_threads()

    def counting(*given: Any) -> dict[str, Tensor]:
        seen.append(torch.get_num_threads())
        return apply(*given)

    monkeypatch.setattr(standalone, "apply", counting)
    try:
        for threads in (3, 1):
            torch.set_num_threads(threads)
            initialize(state, spiking(8, 4))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == [2, 1]


def test_every_kind_of_source_gives_the_same(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "source.pth")
    target = spiking(8, 4)
    found = [
        initialize(source, target, seed=5)
        for source in (
            state,
            module_of(state),
            written(tmp_path, state),
            str(written(tmp_path, state, described=False)),
            tmp_path / "source.pth",
        )
    ]
    for other in found[1:]:
        assert list(other.state) == list(found[0].state)
        assert all(torch.equal(other.state[name], value) for name, value in found[0].state.items())
        assert [entry.action for entry in other.plan.entries] == [entry.action for entry in found[0].plan.entries]
        assert not other.normalisation_given
    hashes = [one.source_sha256 for one in found]
    assert len(set(hashes[:4])) == 1
    taken = found[4].plan.reads()
    assert all(key.startswith("state_dict.module.") for key in taken)


def test_the_hash_covers_exactly_what_was_read(state: dict[str, Tensor]) -> None:
    found = initialize(state, spiking(8, 4), rules=FIRST)
    assert found.source_sha256 == tensors_sha256((key, state[key]) for key in found.plan.reads())
    unread = {**state, "stages.0.1.conv0.weight": state["stages.0.1.conv0.weight"] + 1}
    assert initialize(unread, spiking(8, 4), rules=FIRST).source_sha256 == found.source_sha256
    read = {**state, "stages.0.0.conv0.weight": state["stages.0.0.conv0.weight"] + 1}
    assert initialize(read, spiking(8, 4), rules=FIRST).source_sha256 != found.source_sha256


def test_only_planned_tensors_are_read(state: dict[str, Tensor]) -> None:
    asked: list[str] = []

    class Recording(dict[str, Tensor]):
        def __getitem__(self, key: str) -> Tensor:
            asked.append(key)
            return super().__getitem__(key)

    found = initialize(Recording(state), spiking(8, 4), rules=FIRST)
    assert sorted(asked) == found.plan.reads()


def test_the_papers_experiment_copies_the_teachers_first_blocks() -> None:
    source = values(ann(34, 4))
    found = initialize(source, spiking(18, 4), rules=FIRST)
    start = build(found.architecture, 0).state_dict()
    for name, value in found.state.items():
        random = name.startswith("head.") or name.endswith("num_batches_tracked")
        assert torch.equal(value, start[name] if random else source[name])


def test_random_parts_come_from_the_seed_and_nothing_else(state: dict[str, Tensor]) -> None:
    before = torch.get_rng_state()
    one, two = (initialize(state, spiking(8, 4), seed=seed).state for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    again = initialize(state, spiking(8, 4), seed=1).state
    differing = {name for name in one if not torch.equal(one[name], two[name])}
    assert differing == {"head.weight", "head.bias"}
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_the_source_is_left_alone(state: dict[str, Tensor]) -> None:
    before = copy.deepcopy(state)
    found = initialize(state, spiking(14, 6), rules=Rules(head="copy"))
    for value in found.state.values():
        value.zero_()
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_the_module_is_ready_and_runs(state: dict[str, Tensor]) -> None:
    found = initialize(state, spiking(8, 4))
    model = found.module()
    assert not model.training
    assert all(torch.equal(value, found.state[name]) for name, value in model.state_dict().items())
    assert model(torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))).shape == (2, 2, 5)


def test_a_target_by_name_takes_stem_shortcut_and_classes_of_the_source() -> None:
    found = initialize(values(ann(14, 16, 7, shortcut="pad")), "spiking-resnet8")
    architecture = found.architecture
    assert (architecture.name, architecture.num_classes) == ("spiking-resnet8", 7)
    assert (architecture.traits()["stem"], architecture.traits()["shortcut"], architecture.timesteps) == (
        "3x3",
        "pad",
        4,
    )
    given = initialize(values(ann(14, 16, 7)), "spiking-resnet8", num_classes=3).architecture
    assert (given.num_classes, given.traits()["shortcut"]) == (3, "projection")


def test_an_ann_target_has_one_time_step() -> None:
    """T means nothing in an ANN and must hold its default, or its description would not survive a checkpoint."""
    architecture = initialize(values(ann(14, 16, 7)), "resnet8").architecture
    assert architecture == ann(8, 16, 7)


def test_a_source_without_a_head_needs_the_number_of_classes(state: dict[str, Tensor]) -> None:
    headless = {name: value for name, value in state.items() if not name.startswith("head.")}
    with pytest.raises(UsageError) as caught:
        initialize(headless, "spiking-resnet8")
    assert "classes" in caught.value.message
    assert initialize(headless, "spiking-resnet8", num_classes=3).state["head.bias"].shape == (3,)
    with pytest.raises(UsageError):
        initialize(state, "spiking-resnet8", num_classes=0)
    with pytest.raises(UsageError):
        initialize(state, spiking(8, 4, classes=5), num_classes=6)


def test_a_foreign_source_gets_the_given_normalisation() -> None:
    foreign = torchvision.models.ResNet(
        torchvision.models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=5
    )  # widths 64 to 512
    target = spiking(18, 4, stem="7x7")
    found = initialize(foreign, target, normalise=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    assert found.normalisation_given
    assert found.scheme.startswith("torchvision")
    assert found.state["input.mean"].flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert found.state["input.std"].flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    default = initialize(foreign, target)
    assert default.state["input.mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    weight = foreign.layer3[0].downsample[0].weight
    assert torch.equal(found.state["stages.2.0.shortcut.conv.weight"], weight[:16, :8])
    grey = initialize(foreign, target.changed(in_channels=1), normalise=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))).state
    assert grey["input.mean"].flatten().tolist() == pytest.approx([0.2])
    assert grey["input.std"].flatten().tolist() == pytest.approx([0.5])


def test_the_source_keeps_its_own_normalisation(state: dict[str, Tensor]) -> None:
    found = initialize(state, spiking(8, 4), normalise=((0.1,) * 3, (0.2,) * 3))
    assert torch.equal(found.state["input.mean"], state["input.mean"])
    assert torch.equal(found.state["input.std"], state["input.std"])


def test_a_spiking_source_keeps_its_description(tmp_path: Path) -> None:
    source = spiking(14, 4)
    path = tmp_path / "student.safetensors"
    write_checkpoint(path, values(source), {"architecture": source.to_dict()})
    assert initialize(path, spiking(8, 4)).plan.source == source
    model = build(source, 0)
    assert initialize(model, spiking(8, 4)).plan.source == source


def test_metadata_that_speaks_against_the_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    write_checkpoint(path, values(ann(8, 6)), {"architecture": ann(8, 4).to_dict()})
    with pytest.raises(CheckpointError) as caught:
        initialize(path, spiking(8, 4))
    assert "stem.conv.weight" in caught.value.message
    assert caught.value.fix


def test_a_nan_in_the_source_is_refused(state: dict[str, Tensor]) -> None:
    broken = {**state, "stem.norm.weight": torch.full((6,), torch.nan)}
    with pytest.raises(MappingError, match=r"stem\.norm\.weight"):
        initialize(broken, spiking(8, 4))


def test_what_is_no_resnet_is_refused() -> None:
    for source in ({}, {"weight": torch.zeros(2, 2)}, nn.Linear(3, 3)):
        with pytest.raises(FamilyError):
            initialize(source, "spiking-resnet8")
    with pytest.raises(UsageError, match="spiking-resnet9"):
        initialize(values(ann()), "spiking-resnet9")


def test_a_file_is_closed_with_its_stack(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with ExitStack() as stack:
        network = open_source(written(tmp_path, state), stack)
        assert network.has_head
        assert torch.equal(network.read("head.bias"), state["head.bias"])


def test_it_is_reached_from_the_package() -> None:
    assert idsnn_cli.initialize is initialize
