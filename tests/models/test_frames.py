"""Networks that read a frame at each step: what they compute, and what they are not given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture, build_description, read_description
from idsnn_cli.architecture.costs import forward_macs
from idsnn_cli.errors import UsageError
from idsnn_cli.evaluation.measure import measure_fully
from idsnn_cli.initializer import reestimate
from idsnn_cli.models import Model, build, prolonged
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

T = 3
NETWORKS = ["spiking", "sew", "ms"]


def description(block: str = "spiking", coding: str = "frames", timesteps: int = T, **traits: Any) -> Architecture:
    spiking = {"spiking_block": block, "coding": coding, "timesteps": timesteps}
    return build_description("spiking-resnet8", 5, width=4, **spiking, **traits).changed(in_channels=2)


def network(architecture: Architecture, like: Model | None = None) -> Model:
    """A network whose layers all fire, or one of the tensors of another."""
    model = build(architecture, seed=3).double().eval()
    if like is not None:
        model.load_state_dict(like.state_dict())
        return model
    model.set_normalisation((0.0, 0.0), (0.1, 0.2))
    many = recordings(architecture.timesteps, 16)
    reestimate(model, [many if architecture.coding == "frames" else many[:, 0]] * 3)
    return model


def recordings(steps: int = T, images: int = 4) -> Tensor:
    return torch.rand((images, steps, 2, 16, 16), generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("block", NETWORKS)
def test_equal_frames_are_the_repeated_image(block: str) -> None:
    frames = network(description(block))
    direct = network(description(block, "direct"), frames)
    image = recordings(1)
    assert len(direct(image[:, 0]).flatten(0, 1).unique(dim=0)) > T
    assert torch.allclose(frames(image.expand(-1, T, -1, -1, -1)), direct(image[:, 0]), atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("block", NETWORKS)
def test_without_memory_each_step_is_that_of_its_frame_alone(block: str) -> None:
    forgetful = replace(description().neuron, decay=0.0)
    model = network(description(block, neuron=forgetful))
    alone = network(description(block, "direct", 1, neuron=forgetful), model)
    shown = recordings()
    assert len(model(shown).flatten(0, 1).unique(dim=0)) > T
    logits = model(shown)
    assert logits.shape == (T, 4, 5)
    for step in range(T):
        assert torch.allclose(logits[step], alone(shown[:, step])[0], atol=1e-12)


@torch.no_grad()
def test_what_comes_later_changes_nothing_before() -> None:
    model, shown = network(description()), recordings()
    changed = shown.clone()
    changed[:, 2] = 1 - changed[:, 2]
    before, after = model(shown), model(changed)
    assert torch.equal(before[:2], after[:2])
    assert not torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], before[0])


@torch.no_grad()
def test_an_ann_reads_the_mean_frame() -> None:
    model = network(build_description("resnet8", 5, width=4).changed(in_channels=2))
    shown = recordings(6)
    assert torch.equal(model(shown), model(shown.mean(1)))
    logits, maps = model.with_features(shown)
    assert logits.shape == (4, 5)
    assert maps[0].shape[0] == 4


def test_training_runs_over_all_frames() -> None:
    model = network(description()).train()
    shown = recordings().requires_grad_()
    torch.autograd.backward(model(shown).sum())
    assert shown.grad is not None
    assert bool((shown.grad.abs().amax((0, 2, 3, 4)) > 0).all())
    assert model.state_dict()["stem.norm.num_batches_tracked"] == 1
    empty = model.eval()(recordings()[:0])
    assert empty.shape == (T, 0, 5)


def test_what_a_network_does_not_read_is_refused() -> None:
    model, direct = network(description()), network(description(coding="direct"))
    for shown, words in ((recordings(2), "recordings of 2 frames"), (recordings()[:, 0], "these are images")):
        with pytest.raises(UsageError, match=f"reads 3 frames, one at each time step, and .*{words}"):
            model(shown)
    with pytest.raises(UsageError, match="reads one image, which it repeats, and these are recordings of 3 frames"):
        direct(recordings())
    with pytest.raises(UsageError, match="images of 2 channels, and these have 3"):
        model(torch.zeros(1, T, 3, 16, 16))
    one = network(description(timesteps=1))
    assert one(recordings(1)).shape == (1, 4, 5)
    with pytest.raises(UsageError, match="and recordings have no more"):
        prolonged(model, 2 * T)


def test_the_description_says_so_and_comes_back() -> None:
    architecture = description()
    assert isinstance(architecture, ResNetArchitecture)
    assert "2-channel images" in architecture.describe()
    assert architecture.describe().endswith("a frame at each step")
    assert read_description(architecture.to_dict()) == architecture
    stem = 9 * 2 * 4 * 16 * 16
    direct = architecture.changed(coding="direct")
    assert forward_macs(architecture, 16, 16) - forward_macs(direct, 16, 16) == (T - 1) * stem


def test_measures_of_images_alone_are_left_out_and_the_first_layer_counts_each_frame() -> None:
    model = network(description())
    labels = torch.arange(4)
    names = ("energy", "activity", "robustness", "beyond", "latency")
    _, found = measure_fully(model, lambda: [(recordings(), labels)], names)
    assert found["robustness"] is None
    assert found["beyond"] is None
    stem, last = 9 * 2 * 4 * 16 * 16, 16 * 5
    assert found["energy"].macs == T * stem + last
    assert any("another frame at each step" in words for words in found["energy"].caveats)
    assert len(found["activity"]) == 7
    ann = network(build_description("resnet8", 5, width=4).changed(in_channels=2))
    _, found = measure_fully(ann, lambda: [(recordings(), labels)], ("robustness", "energy"))
    assert found["robustness"] is None
