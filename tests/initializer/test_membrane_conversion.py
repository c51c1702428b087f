"""ANNs whose blocks add membranes, and the students of MS blocks that they become."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from conversions import Level, ann, converted, images, rates, shown, spiking
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer import Rules, initialize
from idsnn_cli.initializer.correcting import calibrate
from idsnn_cli.models import Model, build, load
from idsnn_cli.models.identify import identify


def source_of(limits: str, shortcut: str, name: str = "resnet14", levels: int = 3, **options: Any) -> Model:
    """A quantised network of MS blocks whose every lambda is another."""
    start = ann(name, shortcut=shortcut, **options)
    traits = {"activation": "qcfs", "levels": levels, "membranes": True, "limits": limits}
    own = build(start.architecture.changed(**traits), 0).double()
    own.load_state_dict(start.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name_, value in own.named_parameters():
            if name_.endswith("limit"):
                value.copy_(0.8 + torch.rand((), generator=generator, dtype=value.dtype))
        for _ in range(30):
            own.train()(images())
    return own.eval()


def as_levels(model: Model, levels: int) -> Model:
    for name, _ in model.architecture.activations():
        model.set_submodule(name, Level(levels, model.architecture.neuron.v_threshold))
    return model


@pytest.mark.parametrize("theta", [1.0, 0.5])
@pytest.mark.parametrize("shortcut", ["projection", "pad"])
@pytest.mark.parametrize(
    ("limits", "amplitude"), [("each", "folded"), ("each", "folded-layer"), ("shared", "one"), ("shared", "folded")]
)
def test_rates_are_the_levels(limits: str, amplitude: str, shortcut: str, theta: float) -> None:
    """Every lambda of its own by gains, or one for all that read a stream: the logits are the quantised network's."""
    own = source_of(limits, shortcut)
    target = spiking(own, 1, 14, amplitude=amplitude, spiking_block="ms")
    target = target.changed(neuron=type(target.neuron)(theta, 1.0, reset="soft", start="half"))
    found, model = converted(own, target, images(), convert="learnt-thresholds")
    with torch.no_grad():
        wanted, got = own(images()), as_levels(model, 3)(images())[0]
    # Weights are float32 before they are compared, and a level may tip over; hardly one may.
    assert float((got - wanted).abs().quantile(0.8)) < 1e-5
    assert torch.equal(got.argmax(1), wanted.argmax(1))
    assert wanted.std(0).min() > 0.01
    assert any("gain" in name for name in found.state) is (amplitude != "one")


def test_a_quantised_target_takes_what_its_source_learnt() -> None:
    """That of the block that each block is made of: the last two of three, and where a stage strides its first."""
    own = source_of("each", "pad", "resnet20")
    target = own.architecture.changed(depths=(2, 2, 2), levels=5)
    found = initialize(own, target, rules=Rules(blocks="last", head="copy"))
    for stage, block, act in itertools.product(range(3), range(2), range(2)):
        of = 2 if block == 1 else (1 if stage == 0 else 0)
        theirs = own.get_parameter(f"stages.{stage}.{of}.act{act}.limit")
        assert found.state[f"stages.{stage}.{block}.act{act}.limit"] == theirs.float()
    assert found.state["final_act.limit"] == own.get_parameter("final_act.limit").float()


def test_a_target_of_other_blocks_takes_no_limit() -> None:
    """An activation that reads a sum has another range than one that reads a convolution."""
    own = source_of("each", "pad")
    found = initialize(own, own.architecture.changed(membranes=False), rules=Rules(head="copy"))
    assert all(value == 8 for name, value in found.state.items() if name.endswith("limit"))


@pytest.mark.parametrize(
    ("limit", "said"), [(0.0, "a range of 0"), (-0.5, "a range of -0.5"), (float("nan"), "NaN"), (float("inf"), "NaN")]
)
def test_a_range_that_is_none_is_refused(limit: float, said: str) -> None:
    own = source_of("each", "pad")
    with torch.no_grad():
        own.get_parameter("stages.1.0.act0.limit").fill_(limit)
    with pytest.raises(MappingError, match=rf"stages\.1\.0\.act0\.limit holds .*{said}"):
        initialize(own, own.architecture.changed(levels=5), rules=Rules(head="copy"))


def test_a_limit_that_many_share_takes_none_of_several() -> None:
    """Option-A shortcuts carry one stream through all stages, so what its readers learnt apart cannot be one of it."""
    own = source_of("each", "pad")
    found = initialize(own, own.architecture.changed(limits="shared"), rules=Rules(head="copy"))
    inside = {name: value for name, value in found.state.items() if name.endswith("act1.limit")}
    assert all(value == own.get_parameter(name).float() for name, value in inside.items())
    assert len(inside) == 6
    assert [float(value) for name, value in found.state.items() if name.endswith("act0.limit")] == [8.0]


@pytest.mark.parametrize("amplitude", ["one", "folded-layer"])
def test_the_error_falls_with_the_steps(amplitude: str) -> None:
    """Mean logits tend to those of the network of ever more levels, as 1 / T."""
    limits = "shared" if amplitude == "one" else "each"
    fine = source_of(limits, "pad", "resnet8", levels=4096)
    errors = []
    for steps in (16, 256):
        _, model = converted(
            fine, spiking(fine, steps, amplitude=amplitude, spiking_block="ms"), images(), convert="learnt-thresholds"
        )
        with torch.no_grad():
            errors.append(float((model(images()).mean(0) - fine(images())).abs().mean()))
    assert errors[1] < errors[0] / 4
    assert errors[1] < 0.05


def test_calibration_corrects_the_sums_by_their_gains() -> None:
    """Few steps from an empty membrane leave channels below their activations. The first reader of the stem's sum is
    mended by what it lacks over its gain, and all are nearer to the ANN afterwards.
    """
    own = source_of("each", "pad", "resnet8", levels=4)
    with torch.no_grad():
        own.get_parameter("stages.0.0.act0.limit").fill_(1.5)
    target = spiking(own, 4, spiking_block="ms", amplitude="folded-layer")
    target = target.changed(neuron=type(target.neuron)(1.0, 1.0, reset="soft"))
    found, model = converted(own, target, images(), convert="learnt-thresholds")
    assert found.conversion is not None
    batches = [images()]

    def errors() -> dict[str, Tensor]:
        reference, spikes = rates(own, batches[0]), rates(model, batches[0])
        lambdas = found.plan.lambdas
        return {
            act: spikes[act].mean((0, 2, 3)) - reference[act].mean((0, 2, 3)) / lambdas[act]
            for act, _ in own.architecture.activations()
        }

    before, gain = errors(), float(model.state_dict()["stages.0.0.gain.weight"])
    beta = model.state_dict()["stem.norm.bias"].clone()
    reference = found.conversion.reference.double()
    calibrate(model, type(found.conversion)(found.plan.lambdas, reference), batches)
    moved = model.state_dict()["stem.norm.bias"] - beta
    assert gain == pytest.approx(1 / 1.5)
    assert torch.allclose(moved, -before["stages.0.0.act0"] / gain, atol=1e-6)
    sizes = [float(torch.cat(list(each.values())).abs().mean()) for each in (before, errors())]
    assert sizes[1] < 0.6 * sizes[0]


def target_of(own: Model, **options: Any) -> Architecture:
    return spiking(own, 4, 14, **options)


@pytest.mark.parametrize(
    ("source", "target", "kind", "words"),
    [
        (True, {"spiking_block": "ms"}, MappingError, r"student\.threshold=channel, or layer"),
        (True, {"amplitude": "folded"}, UsageError, "students of MS blocks"),
        (False, {"spiking_block": "ms", "amplitude": "folded"}, UsageError, "pretrain.activation=qcfs"),
    ],
    ids=["no gains", "no MS student", "no MS source"],
)
def test_what_cannot_be_converted(source: bool, target: dict[str, Any], kind: type[Exception], words: str) -> None:
    own = source_of("each", "pad")
    if not source:
        traits = {"activation": "qcfs", "levels": 3, "limits": "each"}
        own = build(build_description("resnet14", 5, width=4, shortcut="pad").changed(**traits), 0).double().eval()
    with pytest.raises(kind, match=words):
        converted(own, target_of(own, **target), images(), convert="learnt-thresholds")


@pytest.mark.parametrize("theta", [1.0, 0.5])
def test_threshold_balancing_knows_that_projections_read_membranes(theta: float) -> None:
    """`rescale: threshold` in evaluation mode: of many steps, the mean logits are near the ANN's at any theta."""
    start = ann("resnet8")
    own = build(start.architecture.changed(membranes=True), 0).double()
    own.load_state_dict(start.state_dict())
    with torch.no_grad():
        for _ in range(30):
            own.train()(images())
    own.eval()
    target = spiking(own, 256, spiking_block="ms")
    target = target.changed(neuron=type(target.neuron)(theta, 1.0, reset="soft", start="half"))
    rules = Rules(rescale="threshold", head="copy", percentile=100.0)
    found = initialize(own, target, rules=rules, images=shown(images()))
    model = build(target, 0)
    model.load_state_dict(found.state)
    with torch.no_grad():
        wanted, got = own(images()), model.double().eval()(images()).mean(0)
    assert float((got - wanted).norm() / (wanted - wanted.mean(0)).norm()) < 0.2


def test_an_ann_of_ms_blocks_is_told_from_others(tmp_path: Path) -> None:
    """By its last threshold in a state dict without a description; of ReLUs nothing tells, which is said."""
    own = source_of("each", "pad")
    torch.save(own.float().state_dict(), tmp_path / "quantised.pth")
    back = load(tmp_path / "quantised.pth", kind="ann", levels=3)
    assert back.architecture == own.architecture
    assert torch.equal(back(images().float()), own(images().float()))
    plain = build(own.architecture.changed(activation="relu", levels=0, limits="shared"), 0)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    with open_checkpoint(tmp_path / "plain.pth") as file:
        assert any("add what no activation has seen" in question for question in identify(file).unknown)


def test_a_student_of_other_blocks_is_told_so() -> None:
    own = source_of("each", "pad")
    found = initialize(own, target_of(own), rules=Rules(), images=shown(images()))
    assert all("adds what no activation has seen" in str(pair.note) for pair in found.plan.blocks)


def test_a_student_with_gains_is_no_source() -> None:
    own = source_of("each", "pad")
    _, model = converted(
        own, target_of(own, spiking_block="ms", amplitude="folded"), images(), convert="learnt-thresholds"
    )
    with pytest.raises(MappingError, match=r"gain\.weight is a learnt threshold's"):
        initialize(model, target_of(own, spiking_block="ms"), rules=Rules(), images=shown(images()))


def test_the_ann_is_the_block_as_written() -> None:
    """act-conv-BN twice and the block's own input, unchanged: written out for a network of three blocks."""
    own = source_of("each", "pad", "resnet8", levels=5)
    state = own.state_dict()

    def quantised(x: Tensor, act: str) -> Tensor:
        limit = state[f"{act}.limit"]
        y: Tensor = limit * (torch.floor(x * 5 / limit + 0.5) / 5).clamp(0, 1)
        return y

    def normed(x: Tensor, at: str, number: str, stride: int = 1) -> Tensor:
        y = nn.functional.conv2d(x, state[f"{at}.conv{number}.weight"], None, stride, 1)
        norm = [state[f"{at}.norm{number}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return nn.functional.batch_norm(y, *norm)

    with torch.no_grad():
        x = normed((images() - state["input.mean"]) / state["input.std"], "stem", "")
        for stage in range(3):
            at, stride = f"stages.{stage}.0", 1 if stage == 0 else 2
            branch = normed(quantised(x, f"{at}.act0"), at, "0", stride)
            branch = normed(quantised(branch, f"{at}.act1"), at, "1")
            around = x[:, :, ::stride, ::stride]
            more = (branch.shape[1] - x.shape[1]) // 2
            x = branch + nn.functional.pad(around, (0, 0, 0, 0, more, more))
        features = quantised(x, "final_act").mean((2, 3))
        wanted = features @ state["head.weight"].T + state["head.bias"]
        assert torch.allclose(own(images()), wanted, rtol=1e-9, atol=1e-9)
