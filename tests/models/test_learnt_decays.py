"""Networks whose layers of neurons learn their decay: what they compute, their files, and starts from one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import Naive, Steps, spike
from pydantic import ValidationError
from test_kinds import PLAIN, saved, student, with_time_constants
from test_networks_against_naive import SMOOTH, images, lively, stem_inputs
from torch import Tensor

import idsnn_cli
from idsnn_cli.architecture import DECAY_LOGIT, Architecture, Neuron, build_description, read_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.families import SpikingReading
from idsnn_cli.initializer import initialize
from idsnn_cli.initializer.plan import DECAY_START, Plan, random_plan
from idsnn_cli.models import Model, build, first_state, load, prolonged, save
from idsnn_cli.recipe.schema import Student
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint
from idsnn_cli.report.inspect.layer_map import describe_mapping
from idsnn_cli.rules import Rules
from idsnn_cli.spiking import LIF, decay_of

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "spiking": ("spiking-resnet8", {}),
    "smooth, option A": ("spiking-resnet8", {"neuron": SMOOTH, "shortcut": "pad"}),
    "SEW": ("spiking-resnet8", {"spiking_block": "sew"}),
    "MS": ("spiking-resnet8", {"spiking_block": "ms"}),
    "VGG": ("spiking-vgg11", {}),
}
LAYERS = {"spiking": 7, "smooth, option A": 7, "SEW": 9, "MS": 7, "VGG": 8}
UNEVEN = SpikingReading(4, Neuron(1.0), decay=False)


def learnt(name: str = "spiking", **options: Any) -> Architecture:
    arch, traits = FORMS[name]
    return build_description(arch, 5, width=4, **{"timesteps": 3, "learn_decay": "layer", **traits, **options})


def logits_of(state: Any) -> dict[str, float]:
    return {name: float(value) for name, value in state.items() if name.endswith(DECAY_LOGIT)}


def uneven(model: Model) -> Model:
    """``model`` with decays that differ from layer to layer, 0.27 to 0.73."""
    places = [name for name in model.state_dict() if name.endswith(DECAY_LOGIT)]
    with torch.no_grad():
        for place, name in enumerate(places):
            model.state_dict()[name].fill_(2 * place / (len(places) - 1) - 1)
    return model


class Learnt(Naive):
    """Neurons with a decay each, in the order in which they fire."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.left = [name for name in self.state if name.endswith(DECAY_LOGIT)]

    def neuron(self, currents: Steps) -> Steps:
        decay = 1 / (1 + torch.exp(-self.state[self.left.pop(0)]))
        u = currents[0]
        spikes = [spike(u, self.architecture.neuron)]
        for current in currents[1:]:
            u = decay * u * (1 - spikes[-1].detach()) + current
            spikes.append(spike(u, self.architecture.neuron))
        return spikes


@pytest.mark.parametrize("name", ["spiking", "smooth, option A", "SEW", "MS"])
def test_forward_and_gradients_against_the_naive_network(name: str) -> None:
    architecture = learnt(name)
    model, batch = uneven(lively(architecture)).train(), images(8)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    leaves = {key: state[key].requires_grad_() for key in parameters}
    wanted = Learnt(architecture, {**state, **leaves}, training=True)(stem_inputs(model, batch, 11))
    logits = model(batch)
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-10)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad((logits * weight).sum(), list(parameters.values()))
    expected = torch.autograd.grad((wanted * weight).sum(), list(leaves.values()))
    for key, one, other in zip(parameters, found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=key)
    learning = [float(one.abs()) for key, one in zip(parameters, found, strict=True) if key.endswith(DECAY_LOGIT)]
    assert len(learning) == LAYERS[name]
    assert min(learning) > 0


@pytest.mark.parametrize("name", FORMS)
def test_it_starts_as_the_plain_network(name: str) -> None:
    """With all decays at a start that a float32 sigmoid gives: the same bits, and the same draws."""
    architecture = learnt(name, neuron=Neuron(0.5, 0.25))
    plain = architecture.changed(learn_decay="none")
    one, other = build(architecture, seed=3).eval(), build(plain, seed=3).eval()
    batch = images(32 if name == "VGG" else 8).float()
    assert torch.equal(one(batch), other(batch))
    assert list(one.state_dict()) == list(architecture.tensors())
    drawn, known = first_state(architecture, 3), other.state_dict()
    assert all(torch.equal(drawn[key], value) for key, value in known.items())
    layers = [key for key, module in one.named_modules() if isinstance(module, LIF)]
    assert sorted(architecture.neuron_layers()) == sorted(layers)
    assert drawn.keys() - known.keys() == {f"{layer}.{DECAY_LOGIT}" for layer in layers}
    assert architecture.parameters() - plain.parameters() == len(layers) == LAYERS[name]
    assert "decays learnt by layer from 0.25" in architecture.describe()
    # Nothing is said of it in the files of others, which are those of before.
    assert "learn_decay" not in json.dumps([plain.to_dict(), plain.traits()], default=str)
    assert read_description(architecture.to_dict()) == architecture


def test_more_steps_and_files_keep_each_layers_decay(tmp_path: Path) -> None:
    model, batch = uneven(build(learnt(), seed=1)).eval(), images(8).float()
    model.set_normalisation(*PLAIN)
    longer = prolonged(model, 6)
    assert torch.equal(longer(batch)[:3], model(batch))
    save(model, tmp_path / "student.safetensors")
    back = load(tmp_path / "student.safetensors")
    assert back.architecture == model.architecture
    assert torch.equal(back(batch), model(batch))
    model.reset()
    stepped = torch.stack([model.step(batch) for _ in range(3)])
    torch.testing.assert_close(stepped, model(batch), rtol=1e-5, atol=1e-5)
    found = describe_checkpoint(tmp_path / "student.safetensors")
    assert found.decays == {
        name.removesuffix(f".{DECAY_LOGIT}"): decay_of(value)
        for name, value in model.state_dict().items()
        if name.endswith(DECAY_LOGIT)
    }
    assert found.parameters == model.architecture.parameters()
    save(build(learnt(learn_decay="none"), 1), tmp_path / "plain.safetensors")
    assert describe_checkpoint(tmp_path / "plain.safetensors").decays is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", r"lacks the tensor stages\.1\.0\.act1\.decay_logit"),
        ("NaN", r"stages\.1\.0\.act1\.decay_logit holds NaN or infinite values"),
        ("infinite", r"stages\.1\.0\.act1\.decay_logit holds NaN or infinite values"),
        ("a vector", r"stages\.1\.0\.act1\.decay_logit is \[3\], but its architecture says \[\]"),
        ("whole numbers", "no weights to compute with"),
    ],
)
def test_tensors_that_belie_the_description(tmp_path: Path, change: str, words: str) -> None:
    state, key = build(learnt(), 1).state_dict(), f"stages.1.0.act1.{DECAY_LOGIT}"
    if change == "missing":
        del state[key]
    else:
        values = {"NaN": torch.nan, "infinite": torch.inf, "a vector": [0.1, 0.2, 0.3], "whole numbers": 1}
        state[key] = torch.tensor(values[change])
    write_checkpoint(tmp_path / "odd.safetensors", state, {"architecture": learnt().to_dict()})
    with pytest.raises(CheckpointError, match=words):
        load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"learn_decay": "each"},
        {"learn_decay": 3},
        {"neuron": {"decay": 0.0}},
        {"neuron": {"decay": 1}},
        {"kind": "ann"},
    ],
)
def test_descriptions_that_no_network_has(change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"learn_decay|no neurons|the architecture"):
        read_description(learnt().to_dict() | change)


def test_what_has_no_meaning_is_refused() -> None:
    for decay in (0.0, 1.0, 1e-7):
        with pytest.raises(UsageError, match="a sigmoid that starts at 0 or 1 has no slope") as caught:
            learnt(neuron=Neuron(0.5, decay))
        assert "Start from 0.000001 to 0.999999" in str(caught.value.fix)
    with pytest.raises(UsageError, match="an ANN has no neurons"):
        build_description("resnet8", 10, learn_decay="layer")
    constants: list[dict[str, Any]] = [{"decay": 0.0}, {"decay": 1.0}, {"tau": 1e-3}, {"tau": 1e9}]
    for given in constants:
        assert Student.model_validate(given).traits().keys().isdisjoint({"learn_decay"})
        with pytest.raises(
            ValidationError, match=r"learn_decay layer cannot start .* start from 0\.000001 to 0\.999999"
        ):
            Student.model_validate(given | {"learn_decay": "layer"})
    assert Student(tau=2.0, learn_decay="layer").traits()["learn_decay"] == "layer"
    with pytest.raises(UsageError, match="learnt decays cannot start there"):
        initialize(
            build(build_description("resnet8", 5, width=4), 1),
            learnt(neuron=Neuron(1.0, 0.9, reset="soft")),
            rules=Rules(convert="weight-normalisation"),
            images=[(images(8).float(), torch.zeros(4, dtype=torch.int64))],
        )


def parametric(sew: bool) -> tuple[Model, dict[str, Tensor]]:
    """A student, and SpikingJelly's state dict of it with a w of its own in each layer, -0.9 upwards in the file's
    order."""
    model = student(stem="7x7", neuron=Neuron(1.0, 0.3), spiking_block="sew" if sew else "spiking")
    state = with_time_constants(model, 0.0, sew=sew)
    for place, key in enumerate([key for key in state if key.endswith(".w")]):
        state[key] = torch.tensor(0.1 * place - 0.9)
    return model, state


@pytest.mark.parametrize("sew", [False, True])
def test_spikingjellys_file_runs_with_each_layers_decay(tmp_path: Path, sew: bool) -> None:
    model, state = parametric(sew)
    path = saved(tmp_path / "plif.pth", {f"module.{key}": value for key, value in state.items()})
    found = load(path, normalise=PLAIN, kind="spiking", spiking=UNEVEN)
    wanted = build(model.architecture.changed(learn_decay="layer"), 0)
    wanted.load_state_dict(model.state_dict(), strict=False)
    assert logits_of(found.state_dict()).keys() == logits_of(wanted.state_dict()).keys()
    names = {"stem.act": "sn1", "stages.1.0.act1": "layer2.0.sn2", "stages.3.1.act0": "layer4.1.sn1"}
    names |= {"stages.1.0.shortcut_act": "layer2.0.downsample_sn"} if sew else {}
    for ours, theirs in names.items():
        assert torch.equal(found.state_dict()[f"{ours}.{DECAY_LOGIT}"], -state[f"{theirs}.w"])
    for name in logits_of(wanted.state_dict()):
        wanted.state_dict()[name].copy_(found.state_dict()[name])
    batch = images(32).float()
    assert torch.equal(found(batch), wanted.eval()(batch))
    assert not torch.equal(found(batch), model(batch))
    with pytest.raises(UsageError, match=r"says itself that its neurons' decays .* not 0\.25"):
        load(path, normalise=PLAIN, kind="spiking", spiking=SpikingReading(4, Neuron(1.0, 0.25)))
    # What is told of it without its constants, and where inspect reads it as an ANN.
    assert describe_checkpoint(path).decays is not None
    state["layer1.0.sn2.w"] = torch.tensor(torch.nan)
    with pytest.raises(CheckpointError, match="learnt decay"):
        load(saved(tmp_path / "nan.pth", state), normalise=PLAIN, kind="spiking", spiking=UNEVEN)


def test_layers_and_decays_have_to_be_as_many(tmp_path: Path) -> None:
    _, state = parametric(False)
    del state["layer2.1.sn2.w"]
    with pytest.raises(UsageError, match=r"17 layers of neurons: stages\.1\.1\.act1\.decay_logit is of one alone"):
        load(saved(tmp_path / "less.pth", state), normalise=PLAIN, kind="spiking", spiking=UNEVEN)


def test_vectors_of_decays_are_refused(tmp_path: Path) -> None:
    _, state = parametric(False)
    path = saved(tmp_path / "odd.pth", state | {"sn1.w": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"sn1\.w is \[3\], and a layer of neurons learns one decay"):
        load(path, normalise=PLAIN, kind="spiking", spiking=UNEVEN)
    assert "stem.act" not in (describe_checkpoint(path).decays or {})


@pytest.mark.parametrize("block", ["spiking", "sew", "ms"])
def test_our_own_names_without_a_description(tmp_path: Path, block: Any) -> None:
    model = uneven(build(learnt(spiking_block=block), seed=2)).eval()
    path = saved(tmp_path / "bare.pth", model.state_dict())
    with pytest.raises(UsageError, match="is a spiking network by what the file says"):
        load(path, kind="ann")
    found = load(path, kind="spiking", spiking=SpikingReading(3, Neuron(), decay=False))
    assert found.architecture.spiking_block == block
    assert torch.equal(found(images(8).float()), model(images(8).float()))


def test_a_start_maps_them_as_it_maps_layers(tmp_path: Path) -> None:
    """From SpikingJelly's file to SEW and back, and to blocks of another order of neurons."""
    _, state = parametric(True)
    path = saved(tmp_path / "plif.pth", state)
    target = build_description("spiking-resnet18", 5, width=4, stem="7x7", timesteps=4, learn_decay="layer")
    for block, of in (("spiking", 17), ("sew", 20)):
        found = initialize(path, target.changed(spiking_block=block))
        taken = {entry.target: entry for entry in found.plan.entries if entry.target.endswith(DECAY_LOGIT)}
        assert len(taken) == of
        assert {entry.action for entry in taken.values()} == {"copied"}
        assert taken["stages.2.1.act1.decay_logit"].source == "layer3.1.sn2.w"
        assert torch.equal(found.state["stages.2.1.act1.decay_logit"], -state["layer3.1.sn2.w"])
        assert len(found.dropped) == 20 - of
        assert Plan.from_dict(found.plan.to_dict()) == found.plan
        origins = describe_mapping(found.plan).origins
        assert origins["stages.2.1.act1.decay_logit"] == ("stages.2.1.act1.decay_logit",)
    plain = initialize(path, target.changed(learn_decay="none"))
    assert "layer3.1.sn1.w and layer3.1.sn2.w are left out" in str(plain.plan.blocks[5].note)
    assert len(plain.dropped) == 20
    # An MS block's neurons stand before its convolutions: each takes that behind which its own currents come.
    own = uneven(build(target, 2))
    deeper = build_description("spiking-resnet34", 5, width=4, stem="7x7", learn_decay="layer", spiking_block="ms")
    start = initialize(own, deeper, rules=Rules(blocks="first"))
    sources = {entry.target: entry.source for entry in start.plan.entries if entry.target.endswith(DECAY_LOGIT)}
    assert sources["stages.0.0.act0.decay_logit"] == "stem.act.decay_logit"
    assert sources["stages.1.0.act1.decay_logit"] == "stages.1.0.act0.decay_logit"
    assert sources["stages.1.1.act0.decay_logit"] == "stages.1.0.act1.decay_logit"
    assert sources["final_act.decay_logit"] == "stages.3.1.act1.decay_logit"


def test_other_starts_are_the_recipes() -> None:
    target = learnt(neuron=Neuron(0.5, 0.4))
    plain = build(build_description("resnet14", 5, width=4), seed=1)
    found = initialize(plain, target)
    for plan in (found.plan, random_plan(target)):
        entries = [entry for entry in plan.entries if entry.target.endswith(DECAY_LOGIT)]
        assert {(entry.action, entry.reason) for entry in entries} == {("constant", DECAY_START)}
        assert len(entries) == 7
    decays = [decay_of(value) for name, value in found.state.items() if name.endswith(DECAY_LOGIT)]
    assert decays == pytest.approx([0.4] * 7, abs=1e-7)


def test_it_is_trained_and_learns(tmp_path: Path) -> None:
    """A few steps of SGD on one batch move every decay, and what is saved is read back."""
    model, batch = build(learnt(neuron=Neuron(0.5, 0.5, "sigmoid", 4.0)), seed=1).train(), images(8).float()
    before = logits_of(model.state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(batch).mean(0), torch.tensor([0, 1, 2, 3]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    after = logits_of(model.state_dict())
    assert all(after[name] != before[name] for name in before)
    save(model, tmp_path / "learnt.safetensors")
    assert logits_of(idsnn_cli.load(tmp_path / "learnt.safetensors").state_dict()) == after
