"""What is seen of a running network, and the figures made of it, against a forward pass written out and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from running import ALL, BASIC, OPTION_A, PREACTIVATION, labelled, running
from torch import Tensor, nn
from torch.nn import functional as F

from idsnn_cli.initializer.activations import run_watched
from idsnn_cli.initializer.channel_facts import correlations
from idsnn_cli.initializer.thresholds import thresholds
from idsnn_cli.models import Model

BATCHES = [images for images, _ in labelled()]
Seen = dict[str, dict[str, Tensor]]


def written_out(model: Model, images: Tensor) -> Seen:
    """Space -> place -> activation, layer by layer without hooks."""
    architecture, seen = model.architecture, dict[str, dict[str, Tensor]]()

    def note(space: str, where: str, maps: Tensor) -> Tensor:
        seen.setdefault(space, {})[where] = maps
        return maps

    def part(name: str) -> nn.Module:
        return model.get_submodule(name)

    blocks = list(architecture.blocks())
    stream = "stages.0" if isinstance(part("stages.0.0.shortcut"), nn.Identity) else "stem"
    x: Tensor = (images - model.input.mean) / model.input.std
    if architecture.traits()["stem"] == "deep":
        for i in range(3):
            x = F.relu(part(f"stem.{i}.norm")(part(f"stem.{i}.conv")(x)))
            note(f"stem.{i}" if i < 2 else stream, f"stem.{i}", x)
        x = F.max_pool2d(x, 3, 2, 1)
    else:
        x = part("stem.conv")(x)
        if not architecture.preactivation:
            x = note(stream, "stem.act", F.relu(part("stem.norm")(x)))
    for s, b in blocks:
        at, count = f"stages.{s}.{b}", 3 if architecture.traits()["block"] == "bottleneck" else 2
        around, y = part(f"{at}.shortcut"), x
        into, stream = stream, stream if isinstance(around, nn.Identity) else f"stages.{s}"
        if architecture.preactivation:
            for i in range(count):
                y = F.relu(part(f"{at}.norm{i}")(y))
                note(into if i == 0 else f"{at}.inner{i - 1}", f"{at}.act{i}", y)
                beside = y if i == 0 and hasattr(around, "conv") else None
                x = x if beside is None else around(beside)
                y = part(f"{at}.conv{i}")(y)
            x = y + x
            continue
        for i in range(count):
            y = part(f"{at}.norm{i}")(part(f"{at}.conv{i}")(y))
            if i < count - 1:
                y = note(f"{at}.inner{i}", f"{at}.act{i}", F.relu(y))
        x = note(stream, at, F.relu(part(f"{at}.attention")(y) + around(x)))
    if architecture.preactivation:
        note(stream, "final_act", F.relu(part("final_norm")(x)))
    return seen


def all_seen(model: Model) -> Seen:
    """Those of all batches, one after another along the first axis."""
    with torch.no_grad():
        each = [written_out(model, images) for images in BATCHES]
    return {s: {w: torch.cat([seen[s][w] for seen in each]) for w in places} for s, places in each[0].items()}


@pytest.mark.parametrize("kind", ALL)
def test_every_space_is_seen_where_it_is_written(kind: str) -> None:
    model, found = running(ALL[kind]), dict[str, dict[str, list[Tensor]]]()

    def see(space: str, where: str, maps: Tensor) -> None:
        assert not maps.requires_grad
        found.setdefault(space, {}).setdefault(where, []).append(maps.clone())

    assert run_watched(model.train(), BATCHES, see) == 2
    assert all(module.training for module in model.modules())
    wanted = all_seen(model.eval())
    assert {space: set(places) for space, places in found.items()} == {s: set(p) for s, p in wanted.items()}
    # Gates are no activations, and the image is none.
    spaces = {space: size for space, size in model.architecture.streams().sizes.items() if "attention" not in space}
    assert set(found) == set(spaces) - {"input"}
    for space, places in found.items():
        for where, maps in places.items():
            assert maps[0].shape[1] == spaces[space]
            torch.testing.assert_close(torch.cat(maps), wanted[space][where])


def test_hooks_and_modes_are_as_before_whatever_happens() -> None:
    model = running(BASIC)
    model.stages.get_submodule("1").train()
    modes = [module.training for module in model.modules()]

    def fails(*_: Any) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        run_watched(model, BATCHES, fails)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    model(BATCHES[0])


def channels_first(maps: Tensor) -> np.ndarray[Any, Any]:
    return maps.transpose(0, 1).flatten(1).numpy()


@pytest.mark.parametrize("kind", ALL)
def test_correlations_are_pearsons_over_all_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idsnn_cli.initializer.channel_facts.CHUNK", 2000)
    model = running(ALL[kind])
    found = correlations(model, BATCHES)
    for space, places in all_seen(model).items():
        values = np.concatenate([channels_first(maps) for maps in places.values()], 1)
        varies = values.std(1) > 0
        wanted = np.eye(len(values))
        wanted[np.ix_(varies, varies)] = np.corrcoef(values[varies]).reshape(varies.sum(), varies.sum())
        assert found[space].dtype == torch.float64
        np.testing.assert_allclose(found[space].numpy(), wanted, atol=1e-9)


def test_only_asked_spaces_are_correlated() -> None:
    assert set(correlations(running(BASIC), BATCHES, ["stages.1", "stages.0.1.inner0"])) == {
        "stages.1",
        "stages.0.1.inner0",
    }


def test_constant_channels_are_like_no_other_and_large_means_do_not_matter() -> None:
    model = running(BASIC)
    norm = model.get_submodule("stages.0.0.norm0")
    with torch.no_grad():
        norm.get_parameter("weight")[:2] = 0.0
        norm.get_parameter("bias")[:] = torch.tensor([-1.0, 0.1, 1e6, 1e6])
    found = correlations(model, BATCHES, ["stages.0.0.inner0"])["stages.0.0.inner0"]
    assert found[:2, 1:].flatten().tolist() == [0, 0, 0, 1, 0, 0]
    values = channels_first(all_seen(model)["stages.0.0.inner0"]["stages.0.0.act0"])
    assert float(found[2, 3]) == pytest.approx(np.corrcoef(values[2:])[0, 1], abs=1e-6)
    assert found.diagonal().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("percentile", [100.0, 99.9, 95.0, 60.0])
@pytest.mark.parametrize("kind", ALL)
def test_thresholds_are_the_percentile_of_all_activations(kind: str, percentile: float) -> None:
    model = running(ALL[kind])
    found, wanted = thresholds(model, BATCHES, percentile), dict[str, float]()
    for space, places in all_seen(model).items():
        for maps in places.values():
            value = float(np.percentile(maps.numpy(), percentile, method="inverted_cdf"))
            wanted[space] = max(wanted.get(space, 0.0), value or float(maps.max()))
    if ALL[kind].traits()["shortcut"].startswith("pad"):
        largest = max(wanted[f"stages.{s}"] for s in range(3))
        wanted |= {f"stages.{s}": largest for s in range(3)}
    assert found == pytest.approx(wanted, rel=2.0**-12)


def test_a_space_that_never_fires_has_no_threshold() -> None:
    model = running(OPTION_A)
    with torch.no_grad():
        for name in ("weight", "bias"):
            model.get_submodule("stages.0.1.norm0").get_parameter(name)[:] = -0.0
        one = model.get_submodule("stages.1.0.norm0")
        one.get_parameter("weight")[:] = 0.0
        one.get_parameter("bias")[:] = torch.tensor([3.0] + [-1.0] * 7)
    found = thresholds(model, BATCHES)
    assert "stages.0.1.inner0" not in found
    assert found["stages.1.0.inner0"] == pytest.approx(3.0, rel=2.0**-12)
    # One channel in eight fires, so the median is zero: the largest stands for it.
    assert thresholds(model, BATCHES, 50.0)["stages.1.0.inner0"] == pytest.approx(3.0, rel=2.0**-12)


def test_without_a_last_norm_the_sum_is_seen() -> None:
    architecture = PREACTIVATION.changed(depths=(1, 1), final_norm=False)
    model, sums = running(architecture), list[Tensor]()
    model.get_submodule("stages.1.0").register_forward_hook(lambda _module, _inputs, maps: sums.append(maps))
    found = correlations(model, BATCHES, ["stages.1"])["stages.1"]
    np.testing.assert_allclose(found.numpy(), np.corrcoef(channels_first(torch.cat(sums))), atol=1e-9)
