"""Twenty steps of training: the fast neuron, the layout and the machine leave the losses as they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.models import build
from idsnn_cli.spiking import LIF, lif_reference

STEPS = 20
# Losses of steps 1, 5, 10, 15 and 20 in float64, of the rectangle surrogate.
GOLDEN = (1.617958, 1.566664, 1.577198, 1.708771, 1.661989)


class ReferenceLIF(LIF):
    """The layer around the reference neuron: a loop over time and autograd through it."""

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        steps = self.timesteps
        x = x.expand(repeat, *x.shape) if repeat > 1 else x.view(steps, -1, *x.shape[1:])
        return lif_reference(x, self.neuron).flatten(0, 1)


def losses(
    surrogate: str, *, reference: bool = False, layout: torch.memory_format = torch.channels_last
) -> list[float]:
    neuron = Neuron(surrogate=surrogate, surrogate_scale=0.5 if surrogate == "rectangle" else 4.0)
    model = build(build_description("spiking-resnet8", 5, width=6, timesteps=3, neuron=neuron), seed=1)
    if reference:
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, LIF):
                    setattr(parent, name, ReferenceLIF(child.neuron, child.timesteps))
    model.double().to(memory_format=layout)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(STEPS):
        images = torch.rand(6, 3, 12, 12, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 5, (6,), generator=generator)
        loss = F.cross_entropy(model(images.contiguous(memory_format=layout)).mean(0), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        found.append(loss.item())
    return found


def test_golden_losses_of_twenty_steps() -> None:
    found = losses("rectangle")
    assert [found[step - 1] for step in (1, 5, 10, 15, 20)] == pytest.approx(GOLDEN, abs=1e-6)


@pytest.mark.parametrize("surrogate", ["rectangle", "sigmoid"])
def test_the_fast_neuron_trains_as_the_reference_does(surrogate: str) -> None:
    assert losses(surrogate) == pytest.approx(losses(surrogate, reference=True), rel=1e-9)


def test_the_layout_leaves_the_losses_equal() -> None:
    assert losses("rectangle") == pytest.approx(losses("rectangle", layout=torch.contiguous_format), rel=1e-9)
