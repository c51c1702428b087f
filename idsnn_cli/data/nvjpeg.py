"""JPEGs decoded by an NVIDIA GPU (nvJPEG, by torchvision), in batches; what it cannot decode the CPU does.

NOT MEASURED: this path has run against stand-ins only, not on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from idsnn_cli.data.decoding import View, decode, decode_jpegs
from idsnn_cli.data.source import Crop, Say

# What decodes uint8 (n,) encoded images to uint8 (3, H, W) on a device.
Decoder = Callable[[list[Tensor], torch.device], list[Tensor]]


@dataclass(frozen=True)
class Encoded:
    """A batch for the GPU: of each image its ``row``, its ``name``, and uint8 (n,) of a JPEG or (3, H, W) of others."""

    rows: tuple[int, ...]
    names: tuple[str, ...]
    parts: tuple[Tensor, ...]

    def pin_memory(self) -> Encoded:
        """The same in memory from which a GPU copies while the CPU goes on; torch's DataLoader asks for it."""
        return Encoded(self.rows, self.names, tuple(part.pin_memory() for part in self.parts))


class GpuDecoding:
    """Decodes batches on ``device``. The first failure is told to ``say``; each batch that fails is the CPU's."""

    def __init__(self, device: torch.device, view: View, say: Say | None, decoder: Decoder = decode_jpegs) -> None:
        self.device = device
        self.view = view
        self.say = say
        self.decoder = decoder

    def __call__(self, batch: Encoded, crop: Crop | None) -> Tensor:
        """uint8 (n, C, H, W) on the device. Raises :class:`DataError` for a file that is not an image."""
        jpegs = [number for number, part in enumerate(batch.parts) if part.dim() == 1]
        images = {n: part.to(self.device, non_blocking=True) for n, part in enumerate(batch.parts) if part.dim() == 3}
        if jpegs:
            encoded = [batch.parts[number] for number in jpegs]
            try:
                decoded = self.decoder(encoded, self.device)
            except RuntimeError as error:
                self._tell(error)
                names = [batch.names[number] for number in jpegs]
                decoded = [decode(each.numpy().tobytes(), name) for each, name in zip(encoded, names, strict=True)]
            images |= {number: each.to(self.device) for number, each in zip(jpegs, decoded, strict=True)}
        shown = [self.view.show(images[number], crop, row) for number, row in enumerate(batch.rows)]
        return torch.stack(shown)

    def _tell(self, error: RuntimeError) -> None:
        if self.say is not None:
            self.say(f"nvJPEG does not decode a batch, so the CPU does: {str(error).splitlines()[0]}")
            self.say = None
