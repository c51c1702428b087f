"""Students in the names of SpikingJelly and snnTorch: the printed lines, run as they are, give the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from exchange_networks import NETWORKS, images, network, saved
from invoking import invoke

import idsnn_cli
from idsnn_cli import extras
from idsnn_cli.architecture import Neuron
from idsnn_cli.errors import UsageError
from idsnn_cli.export.base import Images, export
from idsnn_cli.families import SpikingReading
from idsnn_cli.models import Model
from idsnn_cli.spiking import LIF, lif

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
FORMS = {"spikingjelly": "SpikingJelly", "snntorch": "snnTorch"}
EXTRA: dict[str, tuple[str, dict[str, Any]]] = {
    "soft, nothing decays": ("thin", {"neuron": Neuron(0.4, 1.0, reset="soft")}),
    "soft": ("thin", {"neuron": Neuron(0.4, 0.8, reset="soft")}),
    "half start": ("wide", {"neuron": Neuron(0.4, 0.8, start="half")}),
    "bottlenecks, iand": ("bottlenecks", {"spiking_block": "sew", "join": "iand"}),
    "learnt amplitudes": ("thin", {"amplitude": "channel"}),
    "ms, max-pool": ("ms", {"stem": "7x7"}),
    "learnt, sew": ("thin", {"spiking_block": "sew", "learn_decay": "layer"}),
    "learnt, ms": ("ms", {"learn_decay": "layer"}),
    "learnt, soft": ("learnt decays", {"neuron": Neuron(0.4, 0.8, reset="soft")}),
    "learnt starts": ("thin", {"learn_start": "channel"}),
    "learnt, half start": ("learnt decays", {"neuron": Neuron(0.4, 0.8, start="half")}),
}
REFUSED = {
    ("spikingjelly", "option A"): "option-A shortcuts",
    ("spikingjelly", "option A behind"): "option-A shortcuts",
    ("spikingjelly", "sew iand"): "option-A shortcuts",
    ("spikingjelly", "no memory"): "forget at once",
    ("spikingjelly", "ms"): "MS blocks",
    **{(form, name): "thresholds of their own" for form in FORMS for name in ("thresholds", "thresholds by layer")},
    ("spikingjelly", "ms, max-pool"): "MS blocks",
    ("spikingjelly", "learnt, ms"): "MS blocks",
    ("spikingjelly", "bottlenecks, iand"): "by IAND",
    ("snntorch", "soft"): "resets softly with decay 0.8",
    ("snntorch", "half start"): "start at half their threshold",
    ("snntorch", "learnt, soft"): "resets softly with learnt decays",
    ("snntorch", "learnt, half start"): "start at half their threshold",
    **{(form, "learnt starts"): "learnt what they start with" for form in FORMS},
    **{(form, "vgg"): "spiking-vgg11" for form in FORMS},
    **{(form, "folded"): "folded amplitudes" for form in FORMS},
    **{(form, "folded by layer"): "folded-layer amplitudes" for form in FORMS},
    **{(form, "learnt amplitudes"): "channel amplitudes" for form in FORMS},
}


def case(name: str) -> Model:
    which, changed = EXTRA.get(name, (name, {}))
    return network(which, **changed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*NETWORKS, *EXTRA])
def test_logits_are_equal_in_float64_or_the_network_is_refused(tmp_path: Path, name: str, form: str) -> None:
    model = case(name)
    source, target = saved(tmp_path, model), tmp_path / "theirs.pt"
    seen = Images(images(3, 32, model.architecture.in_channels), torch.zeros(3, dtype=torch.int64))
    if (form, name) in REFUSED:
        with pytest.raises(UsageError) as caught:
            export(source, target, format=form)
        assert REFUSED[form, name] in caught.value.message
        assert "--format" in str(caught.value.fix)
        assert not target.exists()
        return
    done = export(source, target, format=form, images=lambda: seen)
    assert done.verified is not None
    (compared,) = done.verified
    assert compared.reader.startswith(FORMS[form])
    assert (compared.left_out, compared.images, compared.top1_equal) == (None, 3, 3)
    assert compared.largest is not None
    assert compared.largest < 1e-12
    decays = sum(each.endswith("decay_logit") for each in model.state_dict())
    assert done.facts["tensors"] == len(model.state_dict()) - 2 - decays


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_printed_lines_run_as_they_stand(tmp_path: Path, form: str, dtype: torch.dtype) -> None:
    """Pasted behind ``images``, with the input's normalisation among them."""
    model = network("wide").to(dtype)
    done = export(saved(tmp_path, model), tmp_path / "theirs.pt", format=form)
    space: dict[str, Any] = {"images": images(3).to(dtype)}
    with torch.no_grad():
        exec("\n".join(done.facts["code"]), space)
        expected = model(space["images"])
    assert space["logits"].dtype == dtype
    # In float32 spikes may fire elsewhere, where a membrane is at the threshold.
    torch.testing.assert_close(space["logits"], expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 2e-2)
    assert float(expected.std()) > 0.01


def test_a_membrane_at_the_threshold_fires_in_neither() -> None:
    """SpikingJelly's neuron fires at its threshold, which is the next number above the student's."""
    from spikingjelly.activation_based.neuron import LIFNode

    from idsnn_cli.export._peers import above

    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([0.5, above(0.5, dtype), 0.4], dtype=dtype)
        node = LIFNode(tau=4 / 3, decay_input=False, v_threshold=above(0.5, dtype), v_reset=0.0)
        assert torch.equal(node(x), lif(x[None], Neuron(0.5, 0.25))[0])
        assert node(x.new_zeros(3)).sum() == 0


@pytest.mark.parametrize("form", FORMS)
def test_it_is_written_without_the_library_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    source, target = saved(tmp_path, network("thin", classes=10)), tmp_path / "theirs.pt"
    words = ("export", source, "-o", target, "--format", form, "--verify", "2", "--data", "digits")
    found = invoke(capsys, *words)
    assert found.code == 0, found.err
    assert f"{FORMS[form]}: not compared: {form} is not installed" in found.out
    lines = [line for line in found.out.splitlines() if line.startswith("logits = ")]
    assert len(lines) == 1
    assert "net.load_state_dict(torch.load(" in found.out
    assert torch.load(target)["fc.weight" if form == "spikingjelly" else "8.weight"].shape == (10, 32)


def test_spikingjellys_names_are_read_back(tmp_path: Path) -> None:
    """With what a state dict does not say: T, the neuron and the normalisation."""
    model = network("wide")
    export(saved(tmp_path, model), tmp_path / "theirs.pt", format="spikingjelly")
    reading = SpikingReading(3, model.architecture.neuron)
    normal = ([0.4, 0.5, 0.45], [0.2, 0.25, 0.3])
    back = idsnn_cli.load(tmp_path / "theirs.pt", kind="spiking", spiking=reading, normalise=normal)
    assert back.architecture == model.architecture
    own, theirs = model.state_dict(), back.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


@pytest.mark.parametrize("block", ["spiking", "sew"])
def test_spikingjellys_parametric_neurons_are_read_back(tmp_path: Path, block: Any) -> None:
    """Each layer's w is minus ours, and is negated again; the start is the mean of the decays, for none is told."""
    model = network("learnt decays", spiking_block=block)
    export(saved(tmp_path, model), tmp_path / "theirs.pt", format="spikingjelly")
    theirs, own = torch.load(tmp_path / "theirs.pt"), model.state_dict()
    assert torch.equal(theirs["layer2.0.sn1.w"], -own["stages.1.0.act0.decay_logit"])
    normal = ([0.4, 0.5, 0.45], [0.2, 0.25, 0.3])
    reading = SpikingReading(3, model.architecture.neuron, decay=False)
    back = idsnn_cli.load(tmp_path / "theirs.pt", kind="spiking", spiking=reading, normalise=normal)
    assert back.state_dict().keys() == own.keys()
    assert all(torch.equal(own[name], value) for name, value in back.state_dict().items())
    assert torch.equal(back(images(2)), model(images(2)))


def test_snntorchs_betas_are_each_layers_decay(tmp_path: Path) -> None:
    model = network("learnt decays")
    export(saved(tmp_path, model), tmp_path / "theirs.pt", format="snntorch")
    betas = [float(value) for name, value in torch.load(tmp_path / "theirs.pt").items() if name.endswith("beta")]
    layers = [module.decay for module in model.modules() if isinstance(module, LIF)]
    assert sorted(betas) == sorted(layers)
    assert len(set(betas)) == 7


def test_no_ending_stands_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = invoke(capsys, "export", saved(tmp_path, network("thin")), "-o", tmp_path / "x.pt")
    assert refused.code == 2
    assert "snntorch (by --format alone)" in " ".join(refused.err.split())
