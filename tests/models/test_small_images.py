"""Images of which a layer leaves nothing are refused in the house's own words, and no others are."""

from __future__ import annotations

import itertools

import pytest
import torch

from idsnn_cli.architecture import forward_macs, stage_sizes
from idsnn_cli.errors import UsageError
from idsnn_cli.models import build
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

STEMS = [
    ("3x3", "usual"),
    *itertools.product(("7x7",), ("usual", "average", "ceil")),
    *itertools.product(("deep",), ("usual", "average", "ceil", "convolution")),
]


def described(stem: str, pool: str, padding: int, block: str, stride: str, shortcut: str) -> ResNetArchitecture:
    return ResNetArchitecture.of(
        kind="ann",
        depths=(1, 1, 1),
        widths=(4, 8, 16),
        num_classes=3,
        stem=stem,
        stem_padding=padding,
        stem_pool=pool,
        stem_widths=(4, 4, 4) if stem == "deep" else (),
        block=block,
        bottleneck_stride=stride,
        shortcut=shortcut,
    )


@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize(("stem", "pool"), STEMS)
@pytest.mark.parametrize(
    ("block", "stride", "shortcut"),
    [
        ("basic", "3x3", "pad"),
        ("basic", "3x3", "average"),
        ("bottleneck", "1x1", "projection"),
        ("bottleneck", "average", "projection"),
        ("bottleneck", "average", "average"),
    ],
)
def test_the_least_side_is_where_torch_begins_to_fail(
    stem: str, pool: str, padding: int, block: str, stride: str, shortcut: str
) -> None:
    architecture = described(stem, pool, padding, block, stride, shortcut)
    least, model = architecture.least_side(), build(architecture, 0).eval()
    for size in ((least, least + 1), (least + 2, least)):
        assert model(torch.rand(1, 3, *size)).isfinite().all()
    if least == 1:
        return
    for size in ((least - 1, least), (least, least - 1)):
        words = f"{size[0]}x{size[1]} pixels are too small .* sides of {least} or"
        with pytest.raises(UsageError, match=words):
            model(torch.rand(1, 3, *size))
        for tell in (forward_macs, stage_sizes):
            with pytest.raises(UsageError, match=words):
                tell(architecture, *size)
    # The bound is not one of caution: below it torch has nothing to compute with.
    with pytest.raises(RuntimeError, match="size"):
        model.stages(model.stem(torch.rand(1, 3, least, least - 1)))
