"""State dicts of spiking networks: what tells that they spike, what they do not tell, and how they are read then."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from idsnn_cli import initialize
from idsnn_cli.architecture import Architecture, Neuron, build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.errors import UsageError
from idsnn_cli.families import SpikingReading
from idsnn_cli.models import Model, build, load
from idsnn_cli.rules import Rules
from idsnn_cli.spiking import lif

PLAIN = ((0.0,) * 3, (1.0,) * 3)
USUAL = SpikingReading(4, Neuron(0.5, 0.25))


def student(name: str = "spiking-resnet18", **options: Any) -> Model:
    """A small student whose statistics are not those of a new one, so that T and the neurons make a difference."""
    model = build(build_description(name, 5, width=4, **{"timesteps": 4, **options}), seed=3)
    model.set_normalisation(*PLAIN)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if ".norm" in key and key.endswith("weight"):
                value.mul_(4)
    model.train()
    for _ in range(3):
        model(images())
    return model.eval()


def images() -> Tensor:
    return torch.rand((6, 3, 16, 16), generator=torch.Generator().manual_seed(5))


def torchvisions(name: str) -> str:
    """A canonical name as torchvision and SpikingJelly have it."""
    first, *rest = name.split(".")
    if first == "head":
        return f"fc.{rest[-1]}"
    if first == "stem":
        return f"{'conv1' if rest[0] == 'conv' else 'bn1'}.{rest[-1]}"
    stage, block, part, *leaf = rest
    at = f"layer{int(stage) + 1}.{block}"
    if part == "shortcut":
        return f"{at}.downsample.{0 if leaf[0] == 'conv' else 1}.{leaf[1]}"
    return f"{at}.{'conv' if part.startswith('conv') else 'bn'}{int(part[-1]) + 1}.{leaf[0]}"


def releases(name: str) -> str:
    """A canonical name as the authors' student has it: BatchNorms stand in a wrapper."""
    first, *rest = name.split(".")
    if first == "head":
        return f"fc.{rest[-1]}"
    if first == "stem":
        return f"conv1.{'0' if rest[0] == 'conv' else '1.bn'}.{rest[-1]}"
    stage, block, part, *leaf = rest
    at = f"conv{int(stage) + 2}_x.{block}"
    if part == "shortcut":
        return f"{at}.shortcut.{'0' if leaf[0] == 'conv' else '1.bn'}.{leaf[1]}"
    place = {"conv0": "0", "norm0": "1.bn", "conv1": "3", "norm1": "4.bn"}[part]
    return f"{at}.residual_function.{place}.{leaf[0]}"


def renamed(model: Model, names: Any) -> dict[str, Tensor]:
    return {names(key): value for key, value in model.state_dict().items() if not key.startswith("input.")}


def with_time_constants(model: Model, w: float, *, sew: bool) -> dict[str, Tensor]:
    """As SpikingJelly 2.0 saves a network of ParametricLIFNode: one scalar ``w`` a layer of neurons."""
    state, tensor = renamed(model, torchvisions), torch.tensor(w)
    architecture = model.architecture
    state["sn1.w"] = tensor
    for stage, block in architecture.blocks():
        at = f"layer{stage + 1}.{block}"
        state |= {f"{at}.sn{i + 1}.w": tensor for i in range(2)}
        if sew and architecture.shortcut_convolution(stage, block) is not None:
            state[f"{at}.downsample_sn.w"] = tensor
    return state


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_a_students_state_dict_is_refused_and_read_with_its_constants(tmp_path: Path) -> None:
    model = student()
    path = saved(tmp_path / "student.pth", model.state_dict())
    with pytest.raises(UsageError, match=r"whether it spikes, nor T and the neurons' constants") as caught:
        load(path)
    assert "--kind spiking student.timesteps=T" in (caught.value.fix or "")
    assert "--kind ann" in (caught.value.fix or "")
    found = load(path, kind="spiking", spiking=USUAL)
    assert torch.equal(found(images()), model(images()))
    assert found.architecture == model.architecture
    other = load(path, kind="spiking", spiking=SpikingReading(4, Neuron(0.5, 0.9)))
    assert not torch.equal(other(images()), model(images())), "the constants decide nothing here"
    assert load(path, kind="spiking", spiking=USUAL, timesteps=7)(images()).shape[0] == 7
    assert load(path, kind="ann")(images()).shape == (6, 5)


@pytest.mark.parametrize("kind", ["student", "init", "baseline"])
def test_our_own_metadata_without_a_description_tell(tmp_path: Path, kind: str) -> None:
    write_checkpoint(tmp_path / "bare.safetensors", student().state_dict(), {"kind": kind})
    with pytest.raises(UsageError, match="is a spiking network, and the file tells neither"):
        load(tmp_path / "bare.safetensors")
    with pytest.raises(UsageError, match="is a spiking network by what the file says, not an ANN"):
        load(tmp_path / "bare.safetensors", kind="ann")


def test_the_releases_student(tmp_path: Path) -> None:
    model = student(stem_padding=3)
    path = saved(tmp_path / "release.pth", renamed(model, releases))
    with pytest.raises(UsageError, match="is a spiking network, and the file tells neither its time steps"):
        load(path, normalise=PLAIN)
    given = SpikingReading(4, Neuron(0.5, 0.25), stem_padding=3)
    assert torch.equal(load(path, normalise=PLAIN, kind="spiking", spiking=given)(images()), model(images()))


def test_spikingjellys_names_alone_tell_nothing_and_are_read_as_what_is_said(tmp_path: Path) -> None:
    model = student(stem="7x7")
    path = saved(tmp_path / "spiking_resnet.pth", renamed(model, torchvisions))
    assert load(path, normalise=PLAIN).architecture.kind == "ann"
    found = load(path, normalise=PLAIN, kind="spiking", spiking=USUAL)
    assert torch.equal(found(images()), model(images()))


@pytest.mark.parametrize(
    "beside",
    [
        {"args": {"model": "spiking_resnet18", "T": 4}},
        {"T": 4, "v_threshold": 1.0},
        {"net": "sew_resnet18"},
        {"args": {"T": 4, "neuron": "ParametricLIFNode"}},
        {"hyper_parameters": {"node_type": "lif", "step": 4}},
    ],
)
def test_what_stands_beside_the_tensors_tells(tmp_path: Path, beside: dict[str, Any]) -> None:
    state = renamed(student(stem="7x7"), torchvisions)
    path = saved(tmp_path / "checkpoint.pth", {"model": state, **beside})
    with pytest.raises(UsageError, match="is a spiking network, and the file tells neither"):
        load(path, normalise=PLAIN)


@pytest.mark.parametrize("beside", [{"args": {"model": "resnet18", "kd_T": 4.0}}, {"epoch": 4, "decay": 1e-4}])
def test_other_settings_tell_nothing(tmp_path: Path, beside: dict[str, Any]) -> None:
    state = renamed(student(stem="7x7"), torchvisions)
    path = saved(tmp_path / "checkpoint.pth", {"model": state, **beside})
    assert load(path, normalise=PLAIN).architecture.kind == "ann"


def test_learnt_decays_are_those_of_the_file(tmp_path: Path) -> None:
    """w = 0.8 on every layer: decay = 1 - sigmoid(0.8)."""
    decay = 1 - 1 / (1 + math.exp(-0.8))
    neuron = Neuron(1.0, decay)
    model = student(stem="7x7", neuron=neuron, spiking_block="sew", join="iand")
    path = saved(tmp_path / "sew.pth", with_time_constants(model, 0.8, sew=True))
    with pytest.raises(UsageError, match=r"but for their learnt decay, 1 - sigmoid\(w\) = 0\.31"):
        load(path, normalise=PLAIN)
    given = SpikingReading(4, Neuron(1.0), decay=False, join="iand")
    found = load(path, normalise=PLAIN, kind="spiking", spiking=given)
    assert found.architecture.spiking_block == "sew", "neurons behind projections are SEW's"
    assert found.architecture.neuron.decay == pytest.approx(decay, abs=1e-7)
    assert torch.equal(found(images()), model(images()))
    with pytest.raises(UsageError, match=r"says itself that its neurons' decay .* is 0\.310026, not 0\.25"):
        load(path, normalise=PLAIN, kind="spiking", spiking=SpikingReading(4, Neuron(1.0, 0.25), join="iand"))
    with pytest.raises(UsageError, match="neurons behind its projections"):
        load(path, normalise=PLAIN, kind="spiking", spiking=SpikingReading(4, Neuron(), decay=False, block="spiking"))


def test_decays_that_differ_are_each_layers_own(tmp_path: Path) -> None:
    state = with_time_constants(student(stem="7x7"), 0.0, sew=False) | {"layer2.1.sn2.w": torch.tensor(2.0)}
    path = saved(tmp_path / "plif.pth", state)
    found = load(path, normalise=PLAIN, kind="spiking", spiking=SpikingReading(4, Neuron(), decay=False))
    assert "decays learnt by layer" in found.architecture.describe()
    logits = {name: float(value) for name, value in found.state_dict().items() if name.endswith("decay_logit")}
    assert len(logits) == 17
    assert {name for name, value in logits.items() if value != 0} == {"stages.1.1.act1.decay_logit"}
    assert logits["stages.1.1.act1.decay_logit"] == -2
    with pytest.raises(UsageError, match=r"decays .* 0\.1192 \(layer2\.1\.sn2\.w\) to 0\.5 \(sn1\.w\), not 0\.25"):
        load(path, normalise=PLAIN, kind="spiking", spiking=USUAL)


@pytest.mark.parametrize("decays_input", [True, False])
def test_a_parametric_neuron_is_ours_of_that_decay_and_threshold(decays_input: bool) -> None:
    """SpikingJelly's step written out: H = V + sigmoid(w) (X - V), or H = V - sigmoid(w) V + X, hard reset to 0.

    Their spike is H >= theta and ours U > theta; random currents do not meet it.
    """
    w, theta = 0.4, 1.0
    rate = 1 / (1 + math.exp(-w))
    currents = torch.randn((12, 500), generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.8
    membrane, theirs = torch.zeros(500, dtype=torch.float64), []
    for x in currents:
        charged = membrane + rate * (x - membrane) if decays_input else membrane - rate * membrane + x
        theirs.append((charged >= theta).double())
        membrane = charged * (1 - theirs[-1])
    ours = lif(currents, Neuron(theta / rate if decays_input else theta, 1 - rate))
    assert torch.equal(ours, torch.stack(theirs))
    assert 0.1 < float(ours.mean()) < 0.9


def test_what_is_left_out_or_does_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path / "student.pth", student().state_dict())
    with pytest.raises(UsageError, match="leaves out T and the neurons' constants"):
        load(path, kind="spiking")
    with pytest.raises(UsageError, match="does not tell its neurons' decay"):
        load(path, kind="spiking", spiking=SpikingReading(4, Neuron(), decay=False))
    with pytest.raises(UsageError, match="as a spiking network: timesteps"):
        load(path, kind="spiking", spiking=SpikingReading(0, Neuron()))


def test_a_start_that_has_to_run_such_a_source_asks_too(tmp_path: Path) -> None:
    """Weights alone are taken from it without a question; a rule that watches it run would watch another network."""
    path = saved(tmp_path / "student.pth", student().state_dict())
    assert initialize(path, "spiking-resnet18").plan.source is not None
    batches = [(images(), torch.zeros(6, dtype=torch.int64))]
    rules = Rules(rescale="threshold")
    with pytest.raises(UsageError, match="whether it spikes"):
        initialize(path, "spiking-resnet18", rules=rules, images=batches)
    assert initialize(path, "spiking-resnet18", rules=rules, images=batches, kind="ann").plan.rules == rules


def test_ours_leaves_no_choice(tmp_path: Path) -> None:
    model = student()
    description: Architecture = model.architecture
    write_checkpoint(tmp_path / "own.safetensors", model.state_dict(), {"architecture": description.to_dict()})
    with pytest.raises(UsageError, match="is idsnn's own"):
        load(tmp_path / "own.safetensors", kind="spiking", spiking=USUAL)


def test_what_no_spiking_network_can_be_is_not_asked(tmp_path: Path) -> None:
    """Squeeze-and-excitation, for one, is of ANNs alone here, so idsnn's own names with it are an ANN's."""
    model = build(build_description("resnet20", 5, width=4).changed(attention="eca", attention_sizes=(3, 3, 3)), 1)
    found = load(saved(tmp_path / "eca.pth", model.state_dict()))
    assert found.architecture == model.architecture
