from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoints import random_state, resnet, spiking
from torch import Tensor

from idsnn_cli.architecture import build_description
from idsnn_cli.initializer import Findings, Plan, Rules, initialize, make_plan, random_plan
from idsnn_cli.report.inspect.layer_map import describe_mapping


def mapped(plan: Plan) -> dict[str, Any]:
    return describe_mapping(plan).to_dict()


def plan_between(source: Any, target: Any, **rules: Any) -> Plan:
    return make_plan(source, target, {name: name for name in source.tensors()}, Rules(**rules))


def rebuilt(part: dict[str, Any], name: str, source: Tensor, report: dict[str, Any]) -> Tensor:
    """A target tensor made from the report alone: channel c is channel c mod C of the source's, or the one chosen."""
    value = source
    for axis, key in enumerate(("output", "input")):
        channels = part[key]
        if channels is None or axis >= value.dim():
            continue
        if channels["rule"] == "whole":
            continue
        assert channels["of"] == value.shape[axis]
        if channels["selection"] is not None:
            value = value.index_select(axis, torch.tensor(report["selections"][channels["selection"]]["channels"]))
            continue
        assert channels["rule"] == ("first" if channels["to"] < channels["of"] else "looped")
        repeats = math.ceil(channels["to"] / channels["of"])
        value = torch.cat([value] * repeats, dim=axis).narrow(axis, 0, channels["to"])
    scale: float = part["scales"].get(name, 1.0)
    return value * scale


@settings(deadline=None, derandomize=True, max_examples=15)
@given(
    depths=st.tuples(st.sampled_from([8, 14, 20]), st.sampled_from([8, 14, 20])),
    widths=st.tuples(st.sampled_from([2, 3, 4]), st.sampled_from([2, 4, 5])),
    blocks=st.sampled_from(["first", "proportional"]),
    shortcut=st.sampled_from(["copy", "random"]),
    head=st.sampled_from(["copy", "random"]),
    rescale=st.sampled_from(["none", "variance"]),
    channels=st.sampled_from(["loop", "uniform", "random"]),
)
def test_the_report_alone_rebuilds_the_student(
    depths: tuple[int, int], widths: tuple[int, int], blocks: Any, shortcut: Any, head: Any, rescale: Any, channels: Any
) -> None:
    source, target = resnet(depths[0], widths[0]), spiking(depths[1], widths[1])
    state = random_state(source)
    rules = Rules(blocks=blocks, shortcut=shortcut, head=head, rescale=rescale, channels=channels)
    made = initialize(state, target, rules=rules)
    report = mapped(make_plan(source, target, {name: name for name in source.tensors()}, rules))
    seen: list[str] = []
    for block in report["blocks"]:
        for part in block["parts"]:
            seen += part["tensors"]
            for name in part["tensors"]:
                if part["action"] == "taken":
                    origin = block["takes"] + name.removeprefix(block["name"])
                    assert report["origins"][name] == [origin]
                    torch.testing.assert_close(made.state[name], rebuilt(part, name, state[origin], report))
                else:
                    assert part["reason"]
    expected = [name for name in target.tensors() if not name.endswith("num_batches_tracked")]
    assert sorted(seen) == sorted(expected)


def test_equal_networks_are_copied_whole_but_for_the_head() -> None:
    report = mapped(plan_between(resnet(14), spiking(14)))
    for block in report["blocks"][:-1]:
        assert [part["words"] for part in block["parts"]] == ["copied whole"]
        assert block["takes"] == block["name"]
    head = report["blocks"][-1]
    assert (head["name"], head["takes"]) == ("head", None)
    assert head["parts"][0]["words"] == "random: the rule head: random"


def test_words_say_how_channels_were_taken() -> None:
    smaller = mapped(plan_between(resnet(8, 8), spiking(8, 4)))["blocks"]
    assert smaller[1]["parts"][0]["words"] == "out first 4 of 8, in whole"
    assert smaller[2]["parts"][0]["words"] == "out first 4 of 8, in first 4 of 8"
    uniform = mapped(plan_between(resnet(8, 8), spiking(8, 4), channels="uniform"))
    assert uniform["blocks"][1]["parts"][0]["words"] == "out 4 of 8 uniformly, in whole"
    assert uniform["selections"][0]["channels"] == [0, 2, 4, 6]
    random = mapped(plan_between(resnet(8, 4), spiking(8, 8), channels="random", multiplicity="divide"))
    words = "out 4 repeated at random x2, in 4 repeated at random x2, divided by multiplicity"
    assert random["blocks"][2]["parts"][0]["words"] == words
    noisy = mapped(plan_between(resnet(8, 4), spiking(8, 8), noise=0.01))["blocks"]
    assert noisy[1]["parts"][0]["words"] == "out 4 looped x2, in whole, noise of 0.01 deviations on repeated channels"
    larger = mapped(plan_between(resnet(8, 4), spiking(8, 6), rescale="variance"))["blocks"]
    scale = math.sqrt(4 / 6)
    assert larger[1]["parts"][0]["words"] == f"out 4 looped x1.5, in whole, kernel x{scale:.4g}"


def test_modules_are_named_whole_and_a_block_after_a_wider_one_splits() -> None:
    blocks = {block["name"]: block for block in mapped(plan_between(resnet(8, 8), spiking(8, 4)))["blocks"]}
    assert [part["modules"] for part in blocks["stages.0.0"]["parts"]] == [["conv0", "norm0", "conv1", "norm1"]]
    assert [part["modules"] for part in blocks["stages.1.0"]["parts"]] == [
        ["conv0", "norm0", "shortcut"],
        ["conv1", "norm1"],
    ]


def test_each_block_says_which_one_it_takes() -> None:
    report = mapped(plan_between(resnet(20), spiking(14), blocks="proportional"))
    takes = {block["name"]: block["takes"] for block in report["blocks"]}
    # floor(j * 3 / 2) for j = 0, 1.
    assert [takes["stages.1.0"], takes["stages.1.1"]] == ["stages.1.0", "stages.1.1"]
    report = mapped(plan_between(resnet(8), spiking(20), blocks="first"))
    takes = {block["name"]: block["takes"] for block in report["blocks"]}
    assert [takes[f"stages.2.{b}"] for b in range(3)] == ["stages.2.0"] * 3


def test_a_stage_without_a_counterpart_is_random_and_says_why() -> None:
    report = mapped(plan_between(resnet(8, 4), build_description("spiking-resnet18", 10, width=4)))
    last = [block for block in report["blocks"] if block["name"].startswith("stages.3")]
    assert len(last) == 2
    for block in last:
        assert block["takes"] is None
        assert {part["reason"] for part in block["parts"]} == {"the source has no stage 3"}


def test_a_tensor_that_the_source_lacks_is_named_apart_from_its_module() -> None:
    source = resnet()
    names = {name: name for name in source.tensors() if name != "stages.0.0.norm1.running_var"}
    report = mapped(make_plan(source, spiking(), names, Rules()))
    block = next(block for block in report["blocks"] if block["name"] == "stages.0.0")
    lone = [part for part in block["parts"] if part["action"] == "random"]
    assert [part["modules"] for part in lone] == [["norm1.running_var"]]
    assert not any("norm1" in part["modules"] for part in block["parts"])


def test_reestimated_statistics_are_a_note_and_split_no_part() -> None:
    plan = plan_between(resnet(), spiking(), shortcut="random")
    plain = mapped(plan)
    entries = tuple(
        replace(entry, reason="re-estimated on 8 training batches")
        if entry.target.endswith(("running_mean", "running_var"))
        else entry
        for entry in plan.entries
    )
    report = mapped(replace(plan, entries=entries))
    norms = sum(name.endswith("running_mean") for name in spiking().tensors())
    said = {"of": "running statistics", "words": "re-estimated on 8 training batches"}
    assert report["notes"] == [{"tensors": 2 * norms, **said}]
    assert plain["notes"] == []
    for before, after in zip(plain["blocks"], report["blocks"], strict=True):
        assert [part["words"] for part in before["parts"]] == [part["words"] for part in after["parts"]]
        assert [part["modules"] for part in before["parts"]] == [part["modules"] for part in after["parts"]]


def test_totals_cover_every_tensor_and_value() -> None:
    plan = plan_between(resnet(14, 8), spiking(8, 4))
    report = mapped(plan)
    shapes = spiking(8, 4).tensors()
    assert sum(report["tensors"].values()) == len(shapes)
    assert sum(report["values"].values()) == sum(math.prod(shape) for shape in shapes.values())
    assert report["values"]["random"] == 10 * 16 + 10


def test_a_stored_plan_is_described_alike() -> None:
    plan = plan_between(resnet(14, 8), spiking(8, 4), rescale="variance")
    assert mapped(Plan.from_dict(plan.to_dict())) == mapped(plan)


def test_the_random_plan_takes_nothing() -> None:
    report = mapped(random_plan(spiking()))
    assert report["source"] is None
    assert all(block["takes"] is None for block in report["blocks"])
    assert report["values"]["copied"] == report["values"]["interpolated"] == 0
    norms = sum(name.endswith("running_mean") for name in spiking().tensors())
    # Beside each batch counter, the two tensors of the input normalisation are constants.
    assert report["tensors"]["constant"] == norms + 2
    assert report["tensors"]["random"] == len(spiking().tensors()) - norms - 2


def test_a_projection_without_a_place_in_an_option_a_target_is_reported() -> None:
    source = build_description("resnet8", 10, width=4)
    target = build_description("spiking-resnet8", 10, width=4, shortcut="pad", timesteps=2)
    report = mapped(plan_between(source, target))
    assert [entry["block"] for entry in report["left_out"]] == ["stages.1.0", "stages.2.0"]
    assert all("shortcut" in entry["words"] for entry in report["left_out"])


def test_merged_channels_kernels_and_classes_are_told() -> None:
    source = build_description("resnet8", 10, width=8, stem="7x7")
    spaces = source.streams()
    generator = torch.Generator().manual_seed(0)
    correlations = {name: torch.corrcoef(torch.randn(n, 40, generator=generator)) for name, n in spaces.sizes.items()}
    rules = Rules(channels="merge", head="map", class_map=(3, None, 7))
    names = {name: name for name in source.tensors()}
    report = mapped(make_plan(source, spiking(8, 4, 3), names, rules, Findings(correlations=correlations)))
    blocks = {block["name"]: block for block in report["blocks"]}
    assert blocks["stem"]["parts"][0]["words"] == "out 8 merged into 4, in whole, 7x7 to 3x3 around the centre"
    assert "out 3 classes mapped from 10, 1 keep their start" in blocks["head"]["parts"][0]["words"]
    assert blocks["stem"]["share"]["share"] < 9 / 49 + 0.05


def test_threshold_balancing_shows_gamma_and_beta() -> None:
    source = resnet()
    thresholds = dict.fromkeys(source.streams().sizes, 2.0)
    names = {name: name for name in source.tensors()}
    plan = make_plan(source, spiking(), names, Rules(rescale="threshold"), Findings(thresholds=thresholds))
    block = next(block for block in mapped(plan)["blocks"] if block["name"] == "stages.0.0")
    # v_threshold / lambda = 0.5 / 2.
    assert block["parts"][0]["words"] == "copied whole, norm0 gamma and beta x0.25, norm1 gamma and beta x0.25"
    assert block["parts"][0]["scales"]["stages.0.0.norm0.running_var"] == 0.25


def test_a_projection_made_by_selection_says_so() -> None:
    source = build_description("resnet8", 10, width=4, shortcut="pad")
    report = mapped(plan_between(source, spiking(), bare_shortcut="select"))
    block = next(block for block in report["blocks"] if block["name"] == "stages.1.0")
    part = next(part for part in block["parts"] if "shortcut.conv.weight" in part["tensors"][0])
    assert (part["action"], part["words"]) == (
        "constant",
        "constant: a selection of channels, 4 of 8, the others random",
    )


def test_layers_and_blocks_add_up() -> None:
    report = mapped(plan_between(resnet(20, 8), spiking(8, 4)))
    shapes = resnet(20, 8).tensors()
    trained = sum(math.prod(shape) for name, shape in shapes.items() if name.endswith((".weight", ".bias")))
    assert report["share"]["of"] == trained == sum(block["share"]["of"] for block in report["source_blocks"])
    assert report["share"]["used"] == sum(block["share"]["used"] for block in report["source_blocks"])
    by_name = {block["name"]: block for block in report["source_blocks"]}
    assert by_name["stages.1.0"]["taken_by"] == ["stages.1.0"]
    assert by_name["stages.1.2"] == {
        "name": "stages.1.2",
        "taken_by": [],
        "share": by_name["stages.1.2"]["share"] | {"used": 0, "share": 0.0},
    }
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert layers["head"] == {"name": "head", "block": "head", "taken": 0.0, "left_out": None, "change": None}
    # A quarter of the kernel, and half of gamma and beta.
    kernel, norm = 8 * 8 * 9, 2 * 8
    assert layers["stages.0.0.conv0"]["left_out"] == 1 - (kernel / 4 + norm / 2) / (kernel + norm)


def test_a_conversion_says_its_lambdas_and_its_calibrated_betas() -> None:
    plan = plan_between(resnet(), spiking())
    entries = tuple(
        replace(entry, reason="calibrated on 2 training batches") if entry.target == "stages.0.0.norm1.bias" else entry
        for entry in plan.entries
    )
    report = mapped(replace(plan, entries=entries, lambdas={"stages.0": 2.5}))
    assert report["notes"] == [{"tensors": 1, "of": "betas", "words": "calibrated on 2 training batches"}]
    assert report["lambdas"] == {"stages.0": 2.5}
    assert mapped(plan)["lambdas"] == {}
