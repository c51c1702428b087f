"""VGGs into spiking VGGs of other depths and widths: which block takes which, and every value worked out again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from invoking import invoke, save_network
from sources import plan_of, values
from torch import Tensor

from idsnn_cli import initialize
from idsnn_cli.architecture import Architecture, Neuron, build_description
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer import Plan, Rules, apply
from idsnn_cli.initializer.greedy import greedy_blocks
from idsnn_cli.models import build

CPU = torch.device("cpu")
LABELS = torch.zeros(4, dtype=torch.int64)


def ann(depth: int, width: int = 4, **options: Any) -> Architecture:
    return build_description(f"vgg{depth}", 5, width=width, **options)


def spiking(depth: int, width: int = 4, **options: Any) -> Architecture:
    return build_description(f"spiking-vgg{depth}", 5, width=width, timesteps=2, **options)


def state_of(plan: Plan, source: dict[str, Tensor]) -> dict[str, Tensor]:
    return apply(plan, source.__getitem__, build(plan.target, 0).state_dict(), CPU, 0)


@pytest.mark.parametrize("target", [11, 13, 16, 19])
@pytest.mark.parametrize("source", [11, 13, 16, 19])
@pytest.mark.parametrize("width", [3, 4, 6])
def test_any_vgg_starts_any_spiking_one(source: int, target: int, width: int) -> None:
    rules = ("loop", "uniform", "random")[(source + target + width) % 3]
    plan = plan_of(ann(source), spiking(target, width), channels=rules, multiplicity="divide", head="copy", noise=0.1)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    state = state_of(plan, values(ann(source)))
    build(plan.target, 0).load_state_dict(state)
    # The first stage of VGG-11 is its stem alone: what stands behind the stem elsewhere has nothing to take.
    lacking = {"stages.0.0"} if source == 11 else set[str]()
    found = {entry.target.rpartition(".conv0")[0] or entry.target for entry in plan.entries if entry.action == "random"}
    blocks = {each.rpartition(".norm0")[0] or each for each in found}
    assert blocks == (lacking if target != 11 else set())


def test_blocks_are_taken_in_order_and_channels_by_the_rules() -> None:
    theirs = values(ann(19))
    plan = plan_of(ann(19), spiking(16, 2), head="copy")
    state = state_of(plan, theirs)
    # Block b of 3 takes floor(b * 4 / 3); of fewer channels the first are kept.
    for block, taken in ((0, 0), (1, 1), (2, 2)):
        kernel, at = state[f"stages.3.{block}.conv0.weight"], f"stages.3.{taken}"
        assert torch.equal(kernel, theirs[f"{at}.conv0.weight"][: kernel.shape[0], : kernel.shape[1]])
        assert torch.equal(state[f"stages.3.{block}.norm0.running_var"], theirs[f"{at}.norm0.running_var"][:16])
    assert torch.equal(state["head.weight"], theirs["head.weight"][:, :16])
    wider = state_of(plan_of(ann(11), spiking(11, 6), head="copy"), values(ann(11)))
    first = values(ann(11))["stages.1.0.conv0.weight"]
    rows, columns = torch.arange(12) % 8, torch.arange(6) % 4
    assert torch.equal(wider["stages.1.0.conv0.weight"], first[rows][:, columns])


def test_linear_layers_before_the_last_are_taken_where_they_are_alike() -> None:
    options: dict[str, Any] = {"head_widths": (9, 7), "head_side": 2}
    source, target = ann(13, **options), spiking(13, 3, **options)
    theirs = values(source)
    for channels in ("loop", "uniform"):
        plan = plan_of(source, target, channels=channels, head="copy")
        state = state_of(plan, theirs)
        last = (
            next(s for s in plan.to_dict()["selections"] if s["target"] == "stages.4.1")
            if channels == "uniform"
            else None
        )
        chosen = torch.tensor(list(range(24)) if last is None else last["channels"])
        # Each channel is four pixels that stand one behind the other.
        weight = theirs["hidden.0.linear.weight"].view(9, 32, 4)
        assert torch.equal(state["hidden.0.linear.weight"].view(9, 24, 4), weight[:, chosen])
        assert torch.equal(state["hidden.1.linear.weight"], theirs["hidden.1.linear.weight"])
        assert torch.equal(state["head.weight"], theirs["head.weight"])
        assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("options", [{}, {"head_widths": (9,)}, {"head_widths": (9, 7)}])
def test_other_ends_are_random_and_said(options: dict[str, Any]) -> None:
    source = ann(13, head_widths=(9, 7), head_side=2)
    plan = plan_of(source, spiking(13, **options), head="match")
    actions = {entry.target: entry.action for entry in plan.entries}
    assert {actions[name] for name in actions if name.startswith(("head.", "hidden."))} == {"random"}
    assert actions["stages.4.1.conv0.weight"] == "copied"
    with pytest.raises(MappingError, match="the source ends in 3 linear layers"):
        plan_of(source, spiking(13, **options), head="copy")


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (build_description("resnet20", 5), spiking(16), "a block of 2 convolutions does not become one of 1"),
        (build_description("resnet50", 5), spiking(11), "a block of 3 convolutions does not become one of 1"),
        (ann(16), build_description("spiking-resnet18", 5, timesteps=2), "a block of 1 convolution does not become"),
    ],
)
def test_a_resnet_and_a_vgg_do_not_start_each_other(source: Architecture, target: Architecture, words: str) -> None:
    with pytest.raises(MappingError, match=words):
        plan_of(source, target)


def test_a_search_keeps_the_blocks_of_a_shorter_network() -> None:
    model = build(ann(16), 0).eval()
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.rand((6, 3, 32, 32), generator=generator), torch.arange(6) % 5)]
    kept = greedy_blocks(model, spiking(13).depths, batches)
    assert [len(each) for each in kept] == [1, 2, 2, 2, 2]
    assert all(each[0] == 0 for each in kept[1:])


def test_explicit_blocks_of_a_stage_without_any_are_an_empty_list() -> None:
    lists: tuple[tuple[int, ...], ...] = ((), (0, 0), (0, 1, 1), (0, 1, 1), (0, 1, 1))
    plan = plan_of(ann(11), spiking(16), blocks=lists)
    assert plan.blocks[0].source_block is None
    with pytest.raises(MappingError, match="where 0 of the target take one"):
        plan_of(ann(11), spiking(16), blocks=((0,), *lists[1:]))


INTEGRATE = Neuron(1.0, 1.0, reset="soft", start="half")


@pytest.mark.parametrize("rule", ["weight-normalisation", "threshold-balancing"])
def test_rates_of_a_converted_vgg_near_its_activations(rule: str) -> None:
    """The first layer's: behind a max-pool of spikes rates are above the largest of its rates."""
    source = build(ann(11), 0).eval()
    images = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    student = spiking(11).changed(neuron=INTEGRATE, timesteps=256)
    start = initialize(
        source, student, rules=Rules(convert=rule, head="copy"), images=[(images, torch.zeros(4, dtype=torch.int64))]
    )
    assert set(start.plan.lambdas) == set(student.streams().sizes) - {"input"}
    module = start.module().eval()
    seen: list[Tensor] = []
    module.get_submodule("stem.act").register_forward_hook(lambda _m, _i, spikes: seen.append(spikes))
    source.get_submodule("stem.act").register_forward_hook(lambda _m, _i, maps: seen.append(maps))
    with torch.no_grad():
        module(images)
        source(images)
    limit = start.plan.lambdas["stem"]
    rates = seen[0].view(256, 4, *seen[0].shape[1:]).mean(0) * limit
    torch.testing.assert_close(rates, seen[1].clamp(max=limit), rtol=0, atol=2 * limit / 256)


def test_learnt_thresholds_of_a_deeper_source_go_to_what_takes_its_layers() -> None:
    source = build(ann(16, activation="qcfs", levels=4), 0).eval()
    with torch.no_grad():
        for number, (name, _) in enumerate(source.architecture.activations()):
            source.get_parameter(f"{name}.limit").fill_(1.0 + number)
    student = spiking(11).changed(neuron=INTEGRATE, timesteps=4)
    start = initialize(source, student, rules=Rules(convert="learnt-thresholds", head="copy"))
    numbers = {name.removesuffix(".act"): 1.0 + i for i, (name, _) in enumerate(source.architecture.activations())}
    assert start.plan.lambdas == {space: numbers[space] for space in student.streams().sizes if space != "input"}


def test_conversion_is_for_one_linear_layer() -> None:
    student = spiking(11, head_widths=(9,)).changed(neuron=INTEGRATE)
    with pytest.raises(UsageError, match="networks of one linear layer"):
        initialize(build(ann(11, head_widths=(9,)), 0), student, rules=Rules(convert="weight-normalisation"))


def test_the_command_line_maps_inspects_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save_network(tmp_path / "teacher.safetensors", "teacher", ann(16).changed(num_classes=10))
    out = tmp_path / "init.safetensors"
    made = invoke(capsys, "init", "--from", source, "--arch", "spiking-vgg11", "student.width=4", "-o", out, "--json")
    assert made.code == 0, made.err
    document = invoke(capsys, "inspect", out, "--json").document
    assert document["description"].startswith("Spiking VGG-11, convolutions 1-1-2-2-2, widths 4-8-16-32-32, 10 classes")
    plan = invoke(capsys, "inspect", "--plan", source, "--to", "spiking-vgg19")
    assert plan.code == 0, plan.err
    refused = invoke(capsys, "init", "--from", source, "--arch", "spiking-resnet18", "-o", tmp_path / "x.safetensors")
    assert refused.code == 1
    assert "a block of 1 convolution does not become one of 2 convolutions" in refused.err
    words = ("--data", "digits", "--measure", "activity,energy", "data.test_subset=20", "--json")
    measured = invoke(capsys, "eval", "--checkpoint", out, *words)
    assert measured.code == 0, measured.err
    (result,) = measured.document["results"]
    assert len(result["activity"]) == 8
    layers = {each["layer"]: each["reads"] for each in result["energy"]["layers"]}
    assert [name for name, reads in layers.items() if reads == "values"] == ["stem.conv", "head"]
    assert len(layers) == 9


@pytest.mark.slow
def test_a_whole_run_on_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    networks = ("teacher.arch=vgg13", "teacher.width=4", "student.arch=spiking-vgg11", "student.width=3")
    short = ("data.subset=64", "data.test_subset=40", "teacher.epochs=1", "distill.epochs=1", "student.timesteps=2")
    stems = ("teacher.stem=3x3", "student.stem=3x3", "init.channels=merge", "distill.features=mse")
    refused = invoke(capsys, "run", "quickstart", *networks, *short, "--run-dir", "x")
    assert refused.code == 2
    assert "stem is 7x7, which a VGG cannot have" in refused.err
    done = invoke(capsys, "run", "quickstart", *networks, *short, *stems, "eval.measure=[energy]", "--run-dir", "run")
    assert done.code == 0, done.err
    document = json.loads(Path("run/eval.json").read_text())
    student = next(each for each in document["results"] if each["name"] == "student")
    assert student["architecture"].startswith("Spiking VGG-11, convolutions 1-1-2-2-2, widths 3-6-12-24-24, 10 classes")
    pixels = (
        (3, 3, 1024),
        (3, 6, 256),
        (6, 12, 64),
        (12, 12, 64),
        (12, 24, 16),
        (24, 24, 16),
        (24, 24, 4),
        (24, 24, 4),
    )
    assert student["energy"]["ann_macs"] == sum(9 * entry * out * places for entry, out, places in pixels) + 240


@pytest.mark.slow
def test_a_quantised_vgg_becomes_a_spiking_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    networks = ("teacher.arch=vgg11", "teacher.width=4", "student.arch=spiking-vgg11", "student.width=4")
    short = ("data.subset=64", "data.test_subset=40", "teacher.epochs=1", "distill.epochs=1", "pretrain.epochs=1")
    neuron = ("student.v_threshold=1", "student.decay=1", "student.reset=soft", "student.start=half")
    how = ("pretrain.activation=qcfs", "pretrain.batch_size=32", "init.convert=learnt-thresholds", "init.reestimate=0")
    words = (*networks, *short, *neuron, *how, "teacher.stem=3x3", "student.stem=3x3", "student.threshold=channel")
    done = invoke(capsys, "run", "quickstart", *words, "distill.baseline=none", "--run-dir", "run")
    assert done.code == 0, done.err
    spaces = {f"stages.{stage}.{block}.act" for stage, block in spiking(11).blocks()} | {"stem.act"}
    lambdas = invoke(capsys, "inspect", "run/init.safetensors", "--json").document["mapping"]["lambdas"]
    assert {name.removesuffix(".act") for name in lambdas} == {name.removesuffix(".act") for name in spaces}
