"""Where option-A shortcuts put their zeros is found by what the BatchNorms behind them remember."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from idsnn_cli import load
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import UsageError
from idsnn_cli.evaluation.untold import find_form
from idsnn_cli.initializer import reestimate
from idsnn_cli.models import Model, build

FORMS = ("pad", "pad-end")


def batches(seed: int, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand((32, 3, 12, 12), generator=generator) for _ in range(count)]


def both(state: dict[str, Tensor], name: str, **options: Any) -> dict[str, Model]:
    models = {}
    for form in FORMS:
        models[form] = build(build_description(name, 10, shortcut=form, **options), 0)
        models[form].load_state_dict(state)
    return models


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("depth", [14, 20])
def test_the_form_that_the_statistics_were_made_in_is_found(form: str, depth: int) -> None:
    model = build(build_description(f"resnet{depth}", 10, width=4, shortcut=form), 3)
    reestimate(model, batches(1, 8))
    models = both(model.state_dict(), f"resnet{depth}", width=4)
    verdict = find_form(models, batches(2))
    assert (next(iter(verdict.divergences)), verdict.clear, verdict.images) == (form, True, 64)
    # The first sum with zeros is that of stage 1's first block: what reads it next tells.
    assert verdict.norm == "stages.1.1.norm0"
    assert verdict.require_clear("it", "name it") == form
    assert not any(each._forward_pre_hooks for model in models.values() for each in model.modules())


def test_a_network_that_was_never_trained_tells_nothing() -> None:
    models = both(
        build(build_description("resnet14", 10, width=4, shortcut="pad"), 0).state_dict(), "resnet14", width=4
    )
    verdict = find_form(models, batches(2))
    assert not verdict.clear
    with pytest.raises(UsageError, match="64 images do not show it"):
        verdict.require_clear("it", "name it")


def test_forms_that_do_the_same_are_not_told_apart() -> None:
    """The only padded sum goes to the linear layer: behind it no norm remembers anything."""
    description = build_description("resnet8", 10, width=4, shortcut="pad").changed(depths=(1, 1), widths=(4, 8))
    models = {form: build(description.changed(shortcut=form), 0) for form in FORMS}
    assert find_form(models, batches(2)).divergences == {}


PUBLIC = os.environ.get("IDSNN_CHECKPOINTS"), os.environ.get("IDSNN_DATA")


@pytest.mark.slow
@pytest.mark.skipif(None in PUBLIC, reason="IDSNN_CHECKPOINTS and IDSNN_DATA name no public files")
@pytest.mark.parametrize("name", ["resnet20-12fca82f.th", "resnet56-4bfd9763.th"])
def test_public_option_a_networks_have_zeros_on_both_sides(name: str) -> None:
    folder, data = (Path(str(each)) for each in PUBLIC)
    file = np.load(data / "cifar10.npz", mmap_mode="r")
    images = torch.from_numpy(np.array(file["train_images"][:256])).permute(0, 3, 1, 2) / 255
    source = load(folder / f"akamaster_{name}", normalise=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    models = both(source.state_dict(), name.partition("-")[0])
    verdict = find_form(models, torch.split(images, 128))
    assert (next(iter(verdict.divergences)), verdict.clear) == ("pad", True)
