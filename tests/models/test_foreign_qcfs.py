"""QCFS networks of others, whose files have thresholds and nothing more: their own logits, or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from foreign import HALF, lively
from torch import Tensor, nn

from idsnn_cli import initialize
from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.errors import CheckpointError, FamilyError, MappingError
from idsnn_cli.models import Model, build, load
from idsnn_cli.rules import Rules

LEVELS = 4
Act = Callable[[int], nn.Module]


class Threshold(nn.Module):
    """lambda floor(L clip(x / lambda, 0, 1) + 1/2) / L, the parameter named as the author likes."""

    def __init__(self, leaf: str, channels: int | None) -> None:
        super().__init__()
        self.leaf, self.channels = leaf, channels
        self.register_parameter(leaf, nn.Parameter(torch.full((channels or 1,), 8.0)))

    def forward(self, x: Tensor) -> Tensor:
        own = self.get_parameter(self.leaf)
        limit = own if self.channels is None else own.view(-1, 1, 1)
        y: Tensor = torch.floor((x / limit).clamp(0, 1) * LEVELS + 0.5) / LEVELS * limit
        return y


def pair(entry: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(entry, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)]


class Released(nn.Module):
    """The names of the authors' release: a residual function in a container, and one more activation behind the sum."""

    class Block(nn.Module):
        def __init__(self, entry: int, out: int, stride: int, act: Act, bottleneck: bool) -> None:
            super().__init__()
            if bottleneck:
                layers = [*pair(entry, out // 4, 1, 1), act(out // 4), *pair(out // 4, out // 4, 3, stride)]
                layers += [act(out // 4), *pair(out // 4, out, 1, 1)]
            else:
                layers = [*pair(entry, out, 3, stride), act(out), *pair(out, out, 3, 1)]
            self.residual_function = nn.Sequential(*layers)
            self.shortcut = nn.Sequential(*(pair(entry, out, 1, stride) if (entry, stride) != (out, 1) else []))
            self.act = act(out)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.act(self.residual_function(x) + self.shortcut(x))
            return y

    def __init__(self, act: Act, bottleneck: bool = False) -> None:
        super().__init__()
        entry, growth = 4, 4 if bottleneck else 1
        self.conv1 = nn.Sequential(*pair(3, entry, 3, 1), act(entry))
        for stage, depth in enumerate((2, 1, 2)):
            blocks = []
            for number in range(depth):
                out = 4 * 2**stage * growth
                blocks.append(self.Block(entry, out, 2 if stage and not number else 1, act, bottleneck))
                entry = out
            self.add_module(f"conv{stage + 2}_x", nn.Sequential(*blocks))
        self.fc = nn.Linear(entry, 5)

    def forward(self, x: Tensor) -> Tensor:
        for name in ("conv1", "conv2_x", "conv3_x", "conv4_x"):
            x = self.get_submodule(name)(x)
        y: Tensor = self.fc(x.mean((2, 3)))
        return y


class Replaced(nn.Module):
    """torchvision's names with its ReLUs replaced: two in each block, or as torchvision has it one for both."""

    class Block(nn.Module):
        def __init__(self, entry: int, out: int, act: Act, shared: bool) -> None:
            super().__init__()
            stride = 1 if entry == out else 2
            self.conv1, self.bn1 = pair(entry, out, 3, stride)
            self.conv2, self.bn2 = pair(out, out, 3, 1)
            self.relu = act(out) if shared else None
            self.act1 = None if shared else act(out)
            self.act2 = None if shared else act(out)
            self.downsample = nn.Sequential(*pair(entry, out, 1, stride)) if entry != out else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.act1 or self.relu, self.act2 or self.relu
            assert first is not None
            assert second is not None
            y: Tensor = second(self.bn2(self.conv2(first(self.bn1(self.conv1(x))))) + self.downsample(x))
            return y

    def __init__(self, act: Act, shared: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = pair(3, 4, 3, 1)
        self.relu = act(4)
        self.layer1 = nn.Sequential(self.Block(4, 4, act, shared), self.Block(4, 4, act, shared))
        self.layer2 = nn.Sequential(self.Block(4, 8, act, shared))
        self.layer3 = nn.Sequential(self.Block(8, 16, act, shared))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        y: Tensor = self.fc(x.mean((2, 3)))
        return y


def settled(network: nn.Module, folder: Path) -> Path:
    """``network`` with values that show everything, in float64 so that no level is met by rounding alone; its file."""
    lively(network.double())
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Threshold):
                limit = module.get_parameter(module.leaf)
                limit.copy_(0.4 + torch.rand(limit.shape, generator=generator))
    torch.save(network.state_dict(), folder / "theirs.pth")
    return folder / "theirs.pth"


def one(leaf: str = "thresh") -> Act:
    return lambda channels: Threshold(leaf, None)


def each(channels: int) -> nn.Module:
    return Threshold("thresh", channels)


@pytest.mark.parametrize(
    ("network", "limits"),
    [
        (Released(one()), "each"),
        (Released(one(), bottleneck=True), "each"),
        (Released(each), "channel"),
        (Replaced(one("up"), shared=False), "each"),
        (Replaced(one("thresh"), shared=True), "each"),
        (Replaced(each, shared=True), "channel"),
    ],
    ids=["released", "bottleneck", "channels", "replaced", "one a block", "one a block, channels"],
)
def test_their_logits(network: nn.Module, limits: str, tmp_path: Path) -> None:
    path = settled(network, tmp_path)
    found = load(path, normalise=HALF, levels=LEVELS)
    assert isinstance(found, Model)
    assert found.architecture.traits()["limits"] == limits
    assert found.architecture.levels == LEVELS
    batch = torch.rand((4, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        theirs = network((batch - 0.5) / 0.25)
        assert theirs.std() > 1e-2
        torch.testing.assert_close(found(batch), theirs)
        plain = load(path, normalise=HALF, levels=64)(batch)
    assert (plain - theirs).abs().max() > 1e-3  # the levels matter


def test_levels_are_asked_for(tmp_path: Path) -> None:
    path = settled(Released(one()), tmp_path)
    for allow in (False, True):
        with pytest.raises(FamilyError, match=r"no ReLU network: 'conv1\.2' \(thresh\)") as caught:
            load(path, normalise=HALF, allow_unused=allow)
        assert "--levels L" in str(caught.value.fix)
    state = {key: value for key, value in torch.load(path).items() if not key.endswith("thresh")}
    torch.save(state, path)
    with pytest.raises(FamilyError, match="levels are given"):
        load(path, normalise=HALF, levels=LEVELS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("conv3_x.0.act.thresh"), "1 stand in a block of 2"),
        (lambda s: s.update({"conv3_x.0.shortcut.2.thresh": torch.ones(1)}), "3 stand in a block of 2"),
        (lambda s: s.pop("conv1.2.thresh"), "0 stand outside the blocks"),
        (lambda s: s.update({"last.thresh": torch.ones(1)}), "2 stand outside the blocks"),
        (lambda s: s.update({"conv3_x.0.act.thresh": torch.ones(8)}), "some are single numbers"),
    ],
    ids=["missing", "on a shortcut", "no stem", "behind all", "mixed"],
)
def test_thresholds_of_another_network_are_refused(
    change: Callable[[dict[str, Tensor]], object], said: str, tmp_path: Path
) -> None:
    path = settled(Released(one()), tmp_path)
    state = torch.load(path)
    change(state)
    torch.save(state, path)
    with pytest.raises(FamilyError, match=said):
        load(path, normalise=HALF, levels=LEVELS)


def test_a_threshold_below_zero_is_refused_by_name(tmp_path: Path) -> None:
    path = settled(Released(one()), tmp_path)
    torch.save(torch.load(path) | {"conv3_x.0.act.thresh": torch.tensor([-0.5])}, path)
    with pytest.raises(CheckpointError, match=r"conv3_x\.0\.act\.thresh holds a threshold of -0\.5"):
        load(path, normalise=HALF, levels=LEVELS)


def test_our_own_state_dict_tells_whose_its_thresholds_are(tmp_path: Path) -> None:
    for limits in ("shared", "each"):
        network = build(build_description("resnet8", 5, width=4, activation="qcfs", levels=LEVELS, limits=limits), 0)
        torch.save(network.state_dict(), tmp_path / "ours.pth")
        assert load(tmp_path / "ours.pth", levels=LEVELS, kind="ann").architecture == network.architecture


@pytest.mark.parametrize(
    "network",
    [Released(one()), Replaced(one(), shared=True), Released(each)],
    ids=["released", "one a block", "channels"],
)
def test_a_network_of_other_levels_starts_from_their_thresholds(network: nn.Module, tmp_path: Path) -> None:
    """One for all of a layer's channels, however their file shapes it; a range by channel is another network's."""
    path = settled(network, tmp_path)
    theirs = load(path, normalise=HALF, levels=LEVELS)
    target = theirs.architecture.changed(levels=2, limits="each")
    found = initialize(path, target, rules=Rules(head="copy"), levels=LEVELS).state
    limits = {name: value for name, value in theirs.state_dict().items() if name.endswith("limit")}
    assert len(limits) == len([name for name in found if name.endswith("limit")]) > 0
    for name, value in limits.items():
        assert float(found[name]) == (float(value.float()) if value.dim() == 0 else 8.0)


def test_thresholds_convert_where_a_stream_has_one(tmp_path: Path) -> None:
    """Spikes that are added count alike, so a threshold of each activation cannot be kept; equal ones can."""
    network = Replaced(one(), shared=False)
    path = settled(network, tmp_path)
    rules = Rules(convert="learnt-thresholds", head="copy")
    neuron = Neuron(v_threshold=1.0, decay=1.0, reset="soft", start="half")
    plain = {"activation": "relu", "levels": 0, "limits": "shared"}
    described = load(path, normalise=HALF, levels=LEVELS).architecture
    student = described.changed(kind="spiking", neuron=neuron, timesteps=LEVELS, **plain)
    with pytest.raises(MappingError, match="the source learnt a threshold for each activation"):
        initialize(path, student, rules=rules, levels=LEVELS)
    state = network.state_dict()
    state |= {key: torch.ones(1).double() for key in state if key.endswith("thresh")}
    made = initialize(state, student, rules=rules, levels=LEVELS)
    assert set(made.plan.lambdas.values()) == {1.0}
