"""Learnt spike amplitudes against a network written a second time, and folded into one of binary spikes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import Naive, Steps
from test_networks_against_naive import SMOOTH, images, lively, stem_inputs
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, build_description, read_description
from idsnn_cli.errors import CheckpointError, FamilyError, MappingError, UsageError
from idsnn_cli.evaluation.measure import measure_fully
from idsnn_cli.initializer import initialize
from idsnn_cli.initializer.plan import Plan, random_plan
from idsnn_cli.models import Model, build, first_state, fold_amplitudes, identify_tensors, prolonged
from idsnn_cli.spiking import seed_encoders

OPTIONS: dict[str, dict[str, Any]] = {
    "projections": {},
    "option A": {"shortcut": "pad"},
    "option A, zeros behind": {"shortcut": "pad-end"},
    "7x7 stem": {"stem": "7x7"},
    "poisson": {"coding": "poisson"},
    "smooth, padded by 3": {"neuron": SMOOTH, "stem_padding": 3},
}


def learnt(**options: Any) -> Architecture:
    return build_description("spiking-resnet14", 5, width=4, timesteps=3, amplitude="channel", **options)


def amplified(architecture: Architecture, *, negative: bool = True) -> Model:
    """A network in float64 whose amplitudes are far from one, of either sign and one of them zero."""
    model = lively(architecture)
    generator = torch.Generator().manual_seed(7)
    for name, value in model.state_dict().items():
        if ".amplitude" in name:
            value.copy_(0.3 + 1.5 * torch.rand(value.shape, generator=generator, dtype=torch.float64))
            if negative:
                value[1], value[2] = -value[1], 0
    return model


class Amplified(Naive):
    """Neurons whose spikes are multiplied, in the order in which they fire."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.left = [name for name in self.state if ".amplitude" in name]

    def neuron(self, currents: Steps) -> Steps:
        amplitude = self.state[self.left.pop(0)].view(1, -1, 1, 1)
        return [spikes * amplitude for spikes in super().neuron(currents)]


@pytest.mark.parametrize("name", OPTIONS)
def test_forward_and_gradients_against_the_naive_network(name: str) -> None:
    architecture = learnt(**OPTIONS[name])
    # The naive network multiplies before the pool, which is the same where no amplitude is negative.
    model, batch = amplified(architecture, negative=name != "7x7 stem").train(), images(16)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    leaves = {key: state[key].requires_grad_() for key in parameters}
    wanted = Amplified(architecture, {**state, **leaves}, training=True)(stem_inputs(model, batch, 11))
    seed_encoders(model, 11)
    logits = model(batch)
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-10)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad((logits * weight).sum(), list(parameters.values()))
    expected = torch.autograd.grad((wanted * weight).sum(), list(leaves.values()))
    for key, one, other in zip(parameters, found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=key)
    learning = [float(one.abs().max()) for key, one in zip(parameters, found, strict=True) if ".amplitude" in key]
    assert len(learning) == 13
    assert min(learning) > 0


def test_amplitudes_of_one_are_a_plain_network() -> None:
    plain = build_description("spiking-resnet14", 5, width=4, timesteps=3)
    one, other = build(plain, seed=3).eval(), build(learnt(), seed=3).eval()
    batch = images(8).float()
    assert torch.equal(one(batch), other(batch))
    # Their names change no other tensor's draw, and each starts at one.
    drawn = first_state(learnt(), 3)
    assert all(torch.equal(drawn[name], value) for name, value in one.state_dict().items())
    assert all(bool((drawn[name] == 1).all()) for name in drawn.keys() - one.state_dict().keys())
    assert learnt().parameters() - plain.parameters() == 4 + 4 * 4 + 4 * 8 + 4 * 16
    assert "amplitude" not in plain.to_dict()


def folded_of(model: Model) -> Model:
    architecture, state = fold_amplitudes(model.architecture, model.state_dict())
    folded = build(architecture, seed=0).to(next(model.parameters()).dtype)
    folded.load_state_dict(state)
    return folded.train(model.training)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_folded_network_gives_the_same_logits(name: str, training: bool) -> None:
    model, batch = amplified(learnt(**OPTIONS[name])), images(16)
    model.train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = folded_of(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    answers = []
    with torch.no_grad():
        for network in (model, folded):
            seed_encoders(network, 5)
            answers.append(network(batch))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-12, atol=1e-12)
    assert float(answers[0].std()) > 0.1


@pytest.mark.parametrize("name", OPTIONS)
def test_in_float32_the_logits_are_equal_to_1e_4(name: str) -> None:
    """Rounding differs, so that a membrane at its threshold could turn; on these images none does."""
    model, batch = amplified(learnt(**OPTIONS[name])).float().eval(), images(16).float()
    answers = []
    with torch.no_grad():
        for network in (model, folded_of(model)):
            seed_encoders(network, 5)
            answers.append(network(batch))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_what_a_folded_layer_reads_is_binary(name: str) -> None:
    model = amplified(learnt(**OPTIONS[name])).eval()

    def values(network: Model) -> dict[str, set[float]]:
        """What each convolution but the stem's reads, and what the last block gives."""
        read: dict[str, set[float]] = {}
        layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and not n.startswith("stem")}
        for layer, module in layers.items():
            module.register_forward_pre_hook(
                lambda _module, inputs, layer=layer: read.update({layer: set(inputs[0].unique().tolist())})
            )
        network.stages.register_forward_hook(
            lambda _module, _inputs, maps: read.update(stages=set(maps.unique().tolist()))
        )
        network(images(16))
        return read

    folded, plain = values(folded_of(model)), values(model)
    assert folded.keys() == plain.keys()
    assert all(read <= {0.0, 1.0} for read in folded.values())
    assert all(1.0 in read for read in folded.values())
    assert not any(read <= {0.0, 1.0} for read in plain.values())


def test_shortcuts_without_weights_keep_their_streams_amplitude() -> None:
    for shortcut, kept in (("projection", 4), ("pad", 6)):
        model = amplified(learnt(shortcut=shortcut))
        architecture, state = fold_amplitudes(model.architecture, model.state_dict())
        assert list(state) == list(architecture.tensors())
        assert {name: tuple(value.shape) for name, value in state.items()} == architecture.tensors()
        names = [name for name in state if ".amplitude" in name]
        assert len(names) == kept
        assert all(name.endswith(".shortcut.amplitude.weight") for name in names)
        old = model.state_dict()
        assert torch.equal(state["stages.0.0.shortcut.amplitude.weight"], old["stem.amplitude.weight"])
        assert torch.equal(state["stages.0.1.shortcut.amplitude.weight"], old["stages.0.0.amplitude1.weight"])
        column = old["stages.2.1.conv1.weight"][:, 3] * old["stages.2.1.amplitude0.weight"][3]
        assert torch.equal(state["stages.2.1.conv1.weight"][:, 3], column)
        assert read_description(architecture.to_dict()) == architecture


def test_counts_and_longer_times_are_those_of_the_folded_network() -> None:
    """A spike of any amplitude counts as one accumulate, which it is once folded; it says so."""
    model = amplified(learnt(shortcut="pad")).eval()
    for name, value in model.state_dict().items():
        if ".amplitude" in name:
            value[value == 0] = 0.5  # a spike that counts nothing is none
    batch, labels = images(8), torch.tensor([0, 1, 2, 3])
    found = []
    for network in (model, folded_of(model)):
        _, more = measure_fully(network, lambda: iter([(batch, labels)]), ["energy", "activity"])
        found.append(more)
        longer = prolonged(network, 5)
        torch.testing.assert_close(longer(batch)[:3], network(batch), rtol=1e-9, atol=1e-9)
    assert found[0]["activity"] == found[1]["activity"]
    for key in ("layers", "macs", "synops", "energy_uj", "ann_macs"):
        assert getattr(found[0]["energy"], key) == getattr(found[1]["energy"], key)
    assert found[0]["energy"].synops > 0
    caveats = [set(each["energy"].caveats) for each in found]
    assert any("idsnn export" in words for words in caveats[0] - caveats[1])


def test_a_start_leaves_every_amplitude_at_one() -> None:
    source = build(build_description("resnet14", 5, width=4), seed=1)
    start = initialize(source, learnt())
    plans = [start.plan, random_plan(learnt())]
    for plan in plans:
        entries = [entry for entry in plan.entries if ".amplitude" in entry.target]
        assert len(entries) == 13
        assert {(entry.action, entry.reason) for entry in entries} == {("constant", "a spike counts 1 at first")}
        assert Plan.from_dict(plan.to_dict()) == plan
    for name, value in start.state.items():
        if ".amplitude" in name:
            assert bool((value == 1).all())
    assert torch.equal(start.state["stages.0.0.conv1.weight"], source.state_dict()["stages.0.0.conv1.weight"])


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(UsageError, match="SEW"):
        build_description("spiking-resnet8", 10, spiking_block="sew", amplitude="channel")
    with pytest.raises(UsageError, match="no spikes"):
        build_description("resnet8", 10, amplitude="channel")
    with pytest.raises(CheckpointError, match="amplitude"):
        read_description(learnt().to_dict() | {"amplitude": "each"})
    plain = build_description("spiking-resnet14", 5, width=4)
    for other, word in (
        (plain, "counts 1"),
        (fold_amplitudes(learnt(), first_state(learnt(), 0))[0], "folded already"),
        (build_description("resnet14", 5), "ANN"),
    ):
        with pytest.raises(UsageError, match=word):
            fold_amplitudes(other, first_state(other, 0))
    model = build(learnt(), seed=0)
    # Kernels of such a network expect its amplitudes, and without its description nobody can tell what they are.
    with pytest.raises(MappingError, match=r"stem\.amplitude\.weight"):
        initialize(model, plain)
    tensors = model.state_dict()
    with pytest.raises(FamilyError, match="learnt spike amplitudes"):
        identify_tensors({name: tuple(value.shape) for name, value in tensors.items()}, tensors.__getitem__)


def test_words() -> None:
    assert "learnt spike amplitudes" in learnt().describe()
    assert "folded amplitudes" in folded_of(build(learnt(), seed=0)).architecture.describe()
    assert isinstance(folded_of(build(learnt(), seed=0))(images(8).float()), Tensor)


@pytest.mark.parametrize("shortcut", ["projection", "pad", "pad-end"])
def test_one_amplitude_for_all_channels_of_a_shortcut_is_as_many_that_are_equal(shortcut: str) -> None:
    """Bit for bit forward; its gradient is the sum of theirs."""
    description = build_description("spiking-resnet14", 5, width=4, timesteps=3, shortcut=shortcut)
    one, many = lively(description.changed(amplitude="folded-layer")), lively(description.changed(amplitude="folded"))
    state = dict(one.state_dict())
    scales = [name for name in state if ".amplitude" in name]
    assert len(scales) == sum(description.passes_input(*at) for at in description.blocks()) > 0
    with torch.no_grad():
        for i, name in enumerate(scales):
            state[name].fill_(0.7 + 0.2 * i)
    same = {name: state[name].expand(many.state_dict()[name].shape) for name in state}
    many.load_state_dict(same)
    logits = [model(images(16)) for model in (one, many)]
    assert torch.equal(*logits)
    for each in logits:
        (each * torch.arange(5.0, dtype=each.dtype)).sum().backward()
    for name in scales:
        alone, each = (model.get_parameter(name).grad for model in (one, many))
        assert alone is not None
        assert each is not None
        assert alone.shape == (1,)
        torch.testing.assert_close(alone[0], each.sum())
        assert bool(each.any())


def test_layers_learn_their_thresholds_apart_or_all_channels_theirs() -> None:
    wide = build_description("spiking-resnet8", 5, width=8, timesteps=2, shortcut="pad")
    by_channel = wide.changed(amplitude="folded").parameters() - wide.parameters()
    by_layer = wide.changed(amplitude="folded-layer").parameters() - wide.parameters()
    # Blocks that read 8, 8 and 16 channels.
    assert (by_channel, by_layer) == (32, 3)
    assert read_description(wide.changed(amplitude="folded-layer").to_dict()).amplitude == "folded-layer"
