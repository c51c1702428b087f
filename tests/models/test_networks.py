"""Names and shapes of every network, torchvision's logits, shortcuts, first weights and seeds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, Neuron, SpikingBlock, build_description
from idsnn_cli.families import recognise
from idsnn_cli.models import Model, build, per_step
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.modules import PadShortcut, SEWBlock
from idsnn_cli.networks.resnet.names import ANN_NAMES, SPIKING_NAMES
from idsnn_cli.spiking import LIF, BatchNorm


def every_architecture() -> list[Architecture]:
    plain = [build_description(name, 7) for name in (*ANN_NAMES, *SPIKING_NAMES)]
    padded = [one.changed(shortcut="pad") for one in plain if one.traits()["block"] == "basic"]
    return [*plain, *padded, *(one.changed(stem="7x7", stem_padding=3) for one in (*plain, *padded))]


@pytest.mark.parametrize("architecture", every_architecture(), ids=lambda a: f"{a.name}-{a.stem}-{a.shortcut}")
def test_the_state_dict_is_what_the_description_says(architecture: Architecture) -> None:
    with torch.device("meta"):
        model = build(architecture, seed=0)
    state = model.state_dict()
    assert [(name, tuple(value.shape)) for name, value in state.items()] == list(architecture.tensors().items())
    assert sum(p.numel() for p in model.parameters()) == architecture.parameters()
    assert any(isinstance(module, LIF) for module in model.modules()) == (architecture.kind == "spiking")


@pytest.mark.parametrize(
    "options",
    [{"spiking_block": "sew", "join": "iand"}, {"spiking_block": "ms"}, {"coding": "poisson"}, {"timesteps": 9}],
)
def test_spiking_options_add_no_tensors(options: dict[str, Any]) -> None:
    architecture = build_description("spiking-resnet14", 7, width=4, **options)
    assert list(build(architecture, seed=0).state_dict()) == list(architecture.tensors())


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_an_ann_gives_torchvisions_logits(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = torchvision.models.get_model(name, weights=None, num_classes=11).eval()
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    assert tensor is not None
                    nn.init.uniform_(tensor, 0.3, 0.7)
    state = theirs.state_dict()
    found = recognise({key: tuple(value.shape) for key, value in state.items()})
    assert found.architecture == build_description(name, 11, stem="7x7")
    ours = build(found.architecture, seed=1).eval()
    wanted_names = [name for name in ours.state_dict() if not name.startswith("input.")]
    assert list(found.names) == wanted_names
    ours.load_state_dict({canonical: state[key] for canonical, key in found.names.items()}, strict=False)
    images = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours.set_normalisation(mean, std)
    normalised = torchvision.transforms.functional.normalize(images, mean, std)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(normalised), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stride", "channels", "extra"), [(2, 4, 4), (2, 3, 0), (1, 2, 6), (2, 1, 10)])
@pytest.mark.parametrize("behind", [False, True])
def test_option_a(stride: int, channels: int, extra: int, behind: bool) -> None:
    """Every ``stride``-th pixel from the first, and zero channels before and after."""
    x = torch.randn((2, channels, 5, 6), generator=torch.Generator().manual_seed(0))
    before = 0 if behind else extra // 2
    found = PadShortcut(stride, before, extra - before)(x)
    rows, columns = -(-5 // stride), -(-6 // stride)
    assert found.shape == (2, channels + extra, rows, columns)
    for c in range(channels + extra):
        source = c - before
        for i in range(rows):
            for j in range(columns):
                wanted = x[:, source, i * stride, j * stride] if 0 <= source < channels else torch.zeros(2)
                assert torch.equal(found[:, c, i, j], wanted)


@pytest.mark.parametrize("theta", [0.5, 1.0, 0.3])
def test_gamma_starts_at_theta_and_beta_at_zero(theta: float) -> None:
    spiking = build(build_description("spiking-resnet8", 3, width=4, neuron=Neuron(v_threshold=theta)), seed=0)
    ann = build(build_description("resnet8", 3, width=4), seed=0)
    for model, gamma in ((spiking, theta), (ann, 1.0)):
        norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
        assert len(norms) == 1 + 6 + 2
        for norm in norms:
            assert torch.equal(norm.weight, torch.full_like(norm.weight, gamma))
            assert not norm.bias.any()


def test_a_seed_gives_the_weights_and_leaves_torchs_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = build_description("spiking-resnet8", 3, width=4)

    def refuse(seed: int) -> None:
        raise AssertionError("this seeds the GPUs' generators too")

    monkeypatch.setattr(torch, "manual_seed", refuse)
    before = torch.get_rng_state()
    first, again, other = (build(architecture, seed).state_dict() for seed in (4, 4, 2**62))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    differing = {name for name, value in first.items() if not torch.equal(value, other[name])}
    assert differing == {name for name in first if "conv" in name or name.startswith("head.")}


def test_student_and_teacher_draw_the_same_weights_from_one_seed() -> None:
    ann = build(build_description("resnet8", 3, width=4), seed=5).state_dict()
    spiking = build(build_description("spiking-resnet8", 3, width=4), seed=5).state_dict()
    assert all(torch.equal(spiking[name], value) for name, value in ann.items() if "conv" in name)


def test_he_initialisation_over_the_outputs() -> None:
    """Standard deviation sqrt(2 / (out * k^2))."""
    model = build(build_description("spiking-resnet18", 10), seed=0)
    for name, wanted in (("stages.3.1.conv1.weight", 512 * 9), ("stages.3.0.shortcut.conv.weight", 512)):
        assert float(model.state_dict()[name].std()) == pytest.approx((2 / wanted) ** 0.5, rel=0.02)


def test_spiking_options_mean_nothing_in_an_ann() -> None:
    plain = build_description("resnet8", 3, width=4)
    odd = ResNetArchitecture.of(**plain.traits(), spiking_block="sew", join="and")
    models = [build(architecture, 0).eval() for architecture in (plain, odd)]
    assert not any(isinstance(module, SEWBlock | LIF) for module in models[1].modules())
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    assert torch.equal(models[0](images), models[1](images))


@pytest.mark.parametrize("block", ["spiking", "sew", "ms"])
def test_every_neuron_gives_zeros_and_ones(block: SpikingBlock) -> None:
    model = build(build_description("spiking-resnet8", 3, width=4, timesteps=3, spiking_block=block), seed=0)
    seen: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda _, __, out: seen.append(out))
    model(torch.rand((4, 3, 8, 8), generator=torch.Generator().manual_seed(1)))
    # A SEW block's projection has a neuron of its own.
    assert len(seen) == (9 if block == "sew" else 7)
    assert all(bool(((out == 0) | (out == 1)).all()) for out in seen)
    assert any(bool(out.any()) for out in seen)


@pytest.mark.parametrize("block", ["spiking", "ms"])
def test_a_repeated_image_computes_the_stem_once(block: SpikingBlock) -> None:
    model = build(build_description("spiking-resnet8", 3, width=4, timesteps=6, spiking_block=block), seed=0)
    shapes: list[tuple[int, ...]] = []
    for conv in (model.get_submodule("stem.conv"), model.get_submodule("stages.0.0.conv0")):
        conv.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    model(torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(1)))
    assert shapes == [(2, 4, 8, 8), (12, 4, 8, 8)]


def test_poisson_reads_the_image_itself_and_repeats_by_its_seed() -> None:
    """Poisson reads 0 to 1: the input normalisation must not touch it."""
    model = build(build_description("spiking-resnet8", 3, width=4, timesteps=4, coding="poisson"), seed=0).eval()
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    twin = copy.deepcopy(model)
    twin.set_normalisation((0.4,) * 3, (0.1,) * 3)
    for network in (model, twin):
        assert network.encoder is not None
        network.encoder.seed(3)
    assert torch.equal(model(images), twin(images))


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("name", ["resnet8", "spiking-resnet8"])
def test_any_batch_size(name: str, batch: int) -> None:
    model = build(build_description(name, 3, width=4), seed=0).eval()
    assert per_step(model(torch.rand((batch, 3, 8, 8)))).shape == (1, batch, 3)


def test_per_step_adds_time_to_an_ann() -> None:
    assert per_step(torch.zeros(4, 3)).shape == (1, 4, 3)
    assert per_step(torch.zeros(2, 4, 3)).shape == (2, 4, 3)


def test_the_normalisation_is_in_the_checkpoint_and_in_the_networks_dtype() -> None:
    model: Model = build(build_description("resnet8", 3, width=4), seed=0)
    model.set_normalisation((0.5, 0.25, 0.125), (0.5, 2.0, 4.0))
    assert model.state_dict()["input.mean"].flatten().tolist() == [0.5, 0.25, 0.125]
    images = torch.tensor([1.0, 0.75, 0.5]).view(1, 3, 1, 1)
    assert model.input(images).flatten().tolist() == [1.0, 0.25, 0.09375]
    assert model.double().input(images).dtype == torch.float64


def test_first_weights_do_not_depend_on_other_layers() -> None:
    """Each tensor is drawn by its name: He for convolutions, torch's bounds for the linear layer, tdBN's gamma."""
    deep = build(build_description("spiking-resnet20", 10, width=32, timesteps=2), seed=5).state_dict()
    flat = build(build_description("spiking-resnet8", 10, width=32, timesteps=4), seed=5).state_dict()
    shared = ["stem.conv.weight", "stages.0.0.conv0.weight", "stages.1.0.shortcut.conv.weight", "head.weight"]
    assert all(torch.equal(deep[name], flat[name]) for name in shared)
    kernel = deep["stages.2.1.conv0.weight"]
    assert float(kernel.std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert abs(float(kernel.mean())) < 1e-3
    bound = 128**-0.5
    assert bound * 0.98 < float(deep["head.weight"].abs().max()) <= bound
    assert deep["head.bias"].abs().max() <= bound
    assert deep["stages.1.0.norm1.weight"].unique().tolist() == [0.5]
    other = build(build_description("spiking-resnet20", 10, width=32, timesteps=2), seed=6).state_dict()
    assert not torch.equal(other["head.weight"], deep["head.weight"])
