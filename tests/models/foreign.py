"""Networks of other libraries made lively, saved, loaded here, and run beside their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.models import Model, load

HALF = ((0.5,) * 3, (0.25,) * 3)


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """``network`` in evaluation mode, every norm and bias random so that nothing is hidden by a 0 or a 1."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, like: Tensor) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("running_var",)) or (name.endswith("weight") and tensor.dim() == 1):
                tensor.copy_(uniform(0.5, 1.5, tensor))
            elif name.endswith(("bias", "running_mean")):
                tensor.copy_(uniform(-0.3, 0.3, tensor))
            elif tensor.is_floating_point():
                # The fan-in's scale, which keeps the maps of deep networks in range.
                tensor.copy_(uniform(-1, 1, tensor) * (3 / tensor[0].numel()) ** 0.5)
    return network.eval()


def assert_same_logits(network: nn.Module, folder: Path, size: int = 32, **options: Any) -> Model:
    """Save ``network``, load it here, and compare logits on random images; gives what was loaded."""
    lively(network)
    torch.save(network.state_dict(), folder / "theirs.pth")
    found = load(folder / "theirs.pth", normalise=HALF, **options)
    batch = torch.rand((2, 3, size, size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = network((batch - 0.5) / 0.25)
        theirs = theirs if isinstance(theirs, Tensor) else theirs.logits
        scale = theirs.std().item()
        assert scale > 1e-2, "logits that are all alike would prove nothing"
        torch.testing.assert_close(found(batch), theirs, rtol=1e-4, atol=1e-4 * max(1.0, scale))
    trained = sum(value.numel() for value in network.parameters())
    assert found.architecture.parameters() == trained == sum(value.numel() for value in found.parameters())
    return found
