"""QCFS against its formula and its gradients, and as a trait of a network and its checkpoint."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.architecture import Architecture, Neuron, build_description, read_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.models import QCFS, build, load
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint
from idsnn_cli.spiking import lif_reference


def described(shortcut: str = "projection", levels: int = 4) -> Architecture:
    options = {"shortcut": shortcut, "activation": "qcfs", "levels": levels}
    return build_description("resnet8", 10, width=4, **options)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    values=st.lists(st.floats(-6, 9), min_size=1, max_size=12),
    limit=st.sampled_from([8.0, 1.0, 0.3, 2.5]),
    levels=st.integers(1, 9),
)
def test_values_and_gradients_are_the_formulas(values: list[float], limit: float, levels: int) -> None:
    """y = lambda clip(floor(x L / lambda + 1/2) / L, 0, 1), floor passing its gradient on, number by number."""
    act = QCFS(levels).double()
    act.load_state_dict({"limit": torch.tensor(limit, dtype=torch.float64)})
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    weights = torch.arange(1, len(values) + 1, dtype=torch.float64)
    y = act(x)
    (y * weights).sum().backward()
    by_x, by_limit = [], 0.0
    for place, value in enumerate(values):
        # As the product with the rounded L / lambda, so that ties fall on the same side.
        rounded = math.floor(value * (levels / limit) + 0.5)
        clipped = min(max(rounded / levels, 0.0), 1.0)
        assert y[place].item() == pytest.approx(limit * clipped, abs=1e-12)
        inside = 0 <= rounded <= levels
        by_x.append(float(inside) * (place + 1))
        slope = clipped - value / limit if inside else float(rounded > levels)
        by_limit += slope * (place + 1)
    assert x.grad is not None
    assert act.limit.grad is not None
    assert x.grad.tolist() == by_x
    assert act.limit.grad.item() == pytest.approx(by_limit, abs=1e-9)


def test_edges_are_those_of_the_first_release() -> None:
    """A clip behind a floor whose gradient is the identity's; torch's clamp of then passed a gradient at its ends."""
    levels, limit = 4, 2.0  # halves and eighths: every edge is exact
    edges = [-0.125, 0.0, 0.125, 0.875, 1.0, 1.125]
    values = [limit * near for edge in edges for near in (edge - 1 / 64, edge, edge + 1 / 64)]
    x, theirs = (torch.tensor(values, dtype=torch.float64, requires_grad=True) for _ in range(2))
    act = QCFS(levels).double()
    act.load_state_dict({"limit": torch.tensor(limit, dtype=torch.float64)})
    y = act(x)
    lam = torch.tensor(limit, dtype=torch.float64, requires_grad=True)
    scaled = theirs / lam * levels + 0.5
    floored = scaled + (scaled.floor() - scaled).detach()
    rate = floored / levels
    wanted = torch.where(rate > 1, 1.0, torch.where(rate < 0, 0.0, rate)) * lam
    weights = torch.arange(1, len(values) + 1, dtype=torch.float64)
    (y * weights).sum().backward()
    (wanted * weights).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert y.tolist() == pytest.approx(wanted.tolist(), abs=1e-12)
    assert x.grad is not None
    assert theirs.grad is not None
    assert lam.grad is not None
    assert act.limit.grad is not None
    assert x.grad.tolist() == pytest.approx(theirs.grad.tolist(), abs=1e-12)
    assert act.limit.grad.item() == pytest.approx(lam.grad.item(), abs=1e-9)
    # From -lambda / 2L, included, to lambda (1 + 1 / 2L), left out.
    assert (x.grad > 0).tolist() == [limit * -0.125 <= value < limit * 1.125 for value in values]


def test_a_limit_for_each_channel_is_that_many_activations() -> None:
    """Values and gradients of one activation over all channels are those of one for each channel beside it."""
    limits = torch.tensor([0.5, 2.0, 1.2], dtype=torch.float64)
    x = 2 * torch.rand((4, 3, 5, 5), generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 0.5
    weights = torch.rand(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    act = QCFS(4).double()
    act.limit = torch.nn.Parameter(limits.clone())
    whole = x.clone().requires_grad_()
    (act(whole) * weights).sum().backward()
    assert whole.grad is not None
    assert act.limit.grad is not None
    for channel, limit in enumerate(limits):
        one = QCFS(4).double()
        one.load_state_dict({"limit": limit})
        part = x[:, channel].clone().requires_grad_()
        y = one(part)
        (y * weights[:, channel]).sum().backward()
        assert part.grad is not None
        assert one.limit.grad is not None
        assert torch.equal(act(x)[:, channel], y)
        assert torch.equal(whole.grad[:, channel], part.grad)
        assert act.limit.grad[channel].item() == pytest.approx(one.limit.grad.item())


@pytest.mark.parametrize(("limits", "own"), [("each", 17), ("channel", 17)])
def test_limits_of_their_own_stand_in_the_description(limits: str, own: int) -> None:
    architecture = build_description("resnet18", 5, width=4, stem="3x3", activation="qcfs", levels=4, limits=limits)
    model = build(architecture, 0)
    found = {name: tuple(value.shape) for name, value in model.state_dict().items() if name.endswith(".limit")}
    assert len(found) == own
    assert set(found.values()) == ({()} if limits == "each" else {(4,), (8,), (16,), (32,)})
    assert read_description(architecture.to_dict()) == architecture
    assert "its own lambda" in architecture.describe()
    with pytest.raises(UsageError, match="limits are for activation qcfs"):
        build_description("resnet8", 5, limits=limits)


@pytest.mark.parametrize(("shortcut", "own"), [("projection", 1 + 3 + 2), ("pad", 1 + 3)])
def test_one_limit_for_each_stream_and_each_inner_activation(shortcut: str, own: int) -> None:
    """Identities tie a join to what it adds; a projection, which can rescale, starts a stream of its own."""
    architecture = described(shortcut)
    model = build(architecture, 0)
    names = [name for name in architecture.tensors() if name.endswith(".limit")]
    assert len(names) == own
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == architecture.tensors()
    assert list(model.state_dict()) == list(architecture.tensors())
    assert all(model.state_dict()[name].item() == 8.0 for name in names)
    x = torch.full((1, 4, 2, 2), 100.0)
    with torch.no_grad():
        model.get_parameter("stem.act.limit").fill_(3.0)
    for name, owner in architecture.activations():
        expected = 3.0 if owner == "stem.act" else 8.0
        assert model.get_submodule(name)(x).max().item() == expected, name


def test_a_copy_is_tied_to_itself() -> None:
    model = build(described("pad"), 0)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_parameter("stem.act.limit").fill_(1.0)
    x = torch.full((1, 4, 2, 2), 100.0)
    assert other.get_submodule("stages.2.0.act1")(x).max().item() == 1.0
    assert model.get_submodule("stages.2.0.act1")(x).max().item() == 8.0


def test_a_checkpoint_brings_its_activations(tmp_path: Path) -> None:
    model = build(described(levels=3), 1).eval()
    with torch.no_grad():
        model.get_parameter("stages.1.0.act0.limit").fill_(0.7)
    path = tmp_path / "teacher.safetensors"
    write_checkpoint(path, model.state_dict(), {"kind": "teacher", "architecture": model.architecture.to_dict()})
    again = load(path)
    x = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), model(x))
    assert read_description(model.architecture.to_dict()) == model.architecture
    assert "QCFS activations of 3 levels" in describe_checkpoint(path).to_dict()["description"]


def test_plain_networks_say_nothing_of_it() -> None:
    plain = build_description("resnet8", 10).to_dict()
    assert not {"activation", "levels"} & plain.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "qcfs", "levels": 0},
        {"activation": "relu", "levels": 4},
        {"activation": "qcfs", "levels": 2.5},
        {"activation": "tanh"},
        {"activation": "qcfs", "levels": 4, "preactivation": True},
    ],
    ids=str,
)
def test_what_cannot_be_built(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        build_description("resnet8", 10, **changes)
    plain = build_description("resnet8", 10).to_dict() | changes
    with pytest.raises(CheckpointError):
        read_description(plain)


def test_a_spiking_network_has_no_such_trait() -> None:
    with pytest.raises(UsageError, match="activation is qcfs"):
        build_description("spiking-resnet8", 10, activation="qcfs", levels=4)


def test_at_ties_a_neuron_gives_the_level_below() -> None:
    """x L / lambda = k - 1/2: the formula rounds up to k, and the membrane reaches theta without passing it."""
    levels = 4
    activation = QCFS(levels)
    with torch.no_grad():
        activation.limit.fill_(1.0)
    neuron = Neuron(v_threshold=1.0, decay=1.0, reset="soft", start="half")
    # Sixteenths, which float32 holds: from 0 to the highest level, every fourth from the second a tie.
    x = torch.arange(0, 20) / 16
    rate = lif_reference(x.expand(levels, -1), neuron).mean(0)
    value = activation(x)
    ties = (torch.arange(0, 20) % 4 == 2) & (value > 0) & (x < 1)
    assert int(ties.sum()) == 4
    assert torch.equal(rate[~ties], value[~ties])
    assert torch.equal(rate[ties], value[ties] - 1 / levels)
