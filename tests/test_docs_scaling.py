"""The figures of docs/scaling.md, worked out from the architectures."""

from __future__ import annotations

from pathlib import Path

import pytest

from idsnn_cli.architecture import build_description
from idsnn_cli.models import build

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("spiking-resnet18", "Spiking ResNet-18, 100 classes"),
        ("spiking-resnet34", "Spiking ResNet-34, 100 classes"),
        ("spiking-resnet20", "thin Spiking ResNet-20, 100 classes"),
    ],
)
def test_what_is_sent(name: str, words: str) -> None:
    model = build(build_description(name, 100, timesteps=4), seed=0)
    gradients = sum(4 * parameter.numel() for parameter in model.parameters())
    sizes = [value.numel() for key, value in model.state_dict().items() if key.endswith("running_mean")]
    forward, backward = (sum(4 * (2 * size + extra) for size in sizes) for extra in (1, 0))
    row = f"| {words} | {gradients:,} bytes | {len(sizes)} | {sum(sizes):,} | {forward:,} bytes | {backward:,} bytes |"
    assert row in TEXT


@pytest.mark.parametrize(("step", "row"), [(10, "| 10 ms | 12.5 | 4.2 |"), (30, "| 30 ms | 37.5 | 12.5 |")])
def test_where_the_collectives_take_as_long_as_the_work(step: float, row: str) -> None:
    collectives = 2 * 20
    points = [step * 1000 / (collectives * latency) for latency in (20, 60)]
    assert f"| {step} ms | {points[0]:.1f} | {points[1]:.1f} |" == row
    assert row in TEXT
