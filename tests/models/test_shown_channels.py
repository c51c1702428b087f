"""What networks of one, two and four channels are shown, and which normalisations they take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from idsnn_cli import load
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import UsageError
from idsnn_cli.models import build

PLAIN = build_description("resnet8", 4, width=4)
IMAGES = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["resnet8", "spiking-resnet8"])
def test_one_channel_sees_the_mean_and_three_see_grey(kind: str) -> None:
    grey = IMAGES.mean(1, keepdim=True)
    with torch.no_grad():
        one = build(build_description(kind, 4, width=4).changed(in_channels=1), 0).eval()
        assert torch.equal(one(IMAGES), one(grey))
        three = build(build_description(kind, 4, width=4), 0).eval()
        assert torch.equal(three(grey), three(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(("reads", "given"), [(2, 3), (4, 3), (3, 2), (1, 2), (2, 1)])
def test_others_are_refused(reads: int, given: int) -> None:
    with pytest.raises(UsageError, match=f"images of {reads} channel.*have {given}"):
        build(PLAIN.changed(in_channels=reads), 0)(torch.zeros(1, given, 16, 16))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_foreign_files_are_loaded_with_as_many_values(tmp_path: Path, channels: int) -> None:
    model = build(PLAIN.changed(in_channels=channels), 3).eval()
    values = tuple(0.1 * (place + 1) for place in range(channels))
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("input.")}
    torch.save(state, tmp_path / "theirs.pth")
    with pytest.raises(UsageError, match=f"{channels} channels?, but the normalisation has 3 means"):
        load(tmp_path / "theirs.pth", kind="ann", normalise=((0.5,) * 3, (0.5,) * 3))
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "theirs.pth", kind="ann")
    assert "teacher.normalise=half" in str(caught.value.fix)
    found = load(tmp_path / "theirs.pth", kind="ann", normalise=(values, values))
    images = torch.rand((2, channels, 16, 16))
    model.set_normalisation((0.0,) * channels, (1.0,) * channels)
    scale = torch.tensor(values).view(-1, 1, 1)
    with torch.no_grad():
        assert torch.allclose(found(images), model((images - scale) / scale), atol=1e-5)
    with pytest.raises(UsageError, match="has 3 means"):
        found.set_normalisation((0.5,) * 3, (0.5,) * 3)
