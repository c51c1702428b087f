"""Sources with rarer traits start a student, become themselves, and leave what does not fit at random."""

from __future__ import annotations

import pytest
import torch
from sources import ann, spiking, values

from idsnn_cli.architecture import Architecture
from idsnn_cli.initializer import Rules, initialize
from idsnn_cli.models import build

SE = ann(18, 8).changed(attention="se", attention_sizes=(2, 2, 2, 2))
SOURCES = {
    "clip": ann(50, 8).changed(stem="deep", stem_widths=(4, 4, 8), stem_pool="average", bottleneck_stride="average"),
    "resnet-rs": ann(50, 8).changed(stem="deep", stem_widths=(4, 4, 8, 8), stem_pool="convolution"),
    "cadene": SE.changed(attention_activated=True),
    "no biases": SE.changed(attention_bias=False),
    "no last norm": ann(18, 8).changed(preactivation=True, final_norm=False),
}


@pytest.mark.parametrize("name", SOURCES)
def test_it_starts_a_student_and_becomes_itself(name: str) -> None:
    source = SOURCES[name]
    state = values(source)
    network = build(source, seed=0)
    network.load_state_dict(state)
    assert initialize(network, spiking(18, 8)).plan.counts()["copied"] > 0
    made = initialize(network, source, rules=Rules(head="copy"))
    assert all(torch.equal(made.state[key], state[key]) for key in state if not key.endswith("_tracked"))


@pytest.mark.parametrize(
    ("source", "target", "at_random"),
    [
        (SOURCES["no biases"], SE, ".attention."),
        (SE, SOURCES["no biases"], ".attention."),
        (SOURCES["no last norm"], SOURCES["no last norm"].changed(final_norm=True), "final_norm."),
    ],
)
def test_what_has_no_counterpart_is_random(source: Architecture, target: Architecture, at_random: str) -> None:
    network = build(source, seed=0)
    made = initialize(network, target, rules=Rules(head="copy"))
    found = [entry.target for entry in made.plan.entries if entry.action == "random"]
    expected = [name for name in target.tensors() if at_random in name and not name.endswith("_tracked")]
    assert sorted(found) == sorted(expected)
