"""Students that read a frame at each step leave in every form, and each form is run on recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exchange_networks import network, saved

from idsnn_cli.export.base import Images, export

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{each}")
    for each in ("FutureWarning", "DeprecationWarning", "UserWarning", "torch.jit.TracerWarning")
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "form"), [(".nir", None), (".onnx", None), (".pt2", None), (".pt", "snntorch"), (".pt", "spikingjelly")]
)
def test_each_step_is_given_its_own_frame(tmp_path: Path, ending: str, form: str | None) -> None:
    model = network("thin", coding="frames", in_channels=2)
    draws = torch.Generator().manual_seed(6)
    recordings = torch.rand((5, 3, 2, 16, 16), generator=draws, dtype=torch.float64)
    # Frames in another order are another recording, so that a form which repeats one would be seen.
    with torch.no_grad():
        assert not torch.equal(model(recordings).mean(0), model(recordings.flip(1)).mean(0))
    done = export(
        saved(tmp_path, model),
        tmp_path / f"student{ending}",
        format=form,
        image_size=lambda: (16, 16),
        images=lambda: Images(recordings, torch.zeros(5, dtype=torch.int64)),
    )
    assert done.verified is not None
    ran = [each for each in done.verified if each.left_out is None]
    assert ran
    for compared in ran:
        assert compared.top1_equal == 5
        assert compared.differing in (None, 0)
        assert compared.largest is not None
        assert compared.largest < (1e-4 if compared.dtype == "float32" else 1e-12)
