"""Images and normalisations of as many channels as a network reads: grey for colour, colour for grey."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from idsnn_cli.errors import UsageError


def shown(images: Tensor, channels: int) -> Tensor:
    """Float images (N, C, H, W) as a network of ``channels`` reads them.

    One that reads one channel is shown the mean of three, and one that reads three is shown grey in each. Raises
    :class:`UsageError` for any other two numbers.
    """
    have = images.shape[1] if images.dim() == 4 else None
    if have is None or have == channels:
        return images
    if {have, channels} != {1, 3}:
        raise UsageError(
            f"the network reads images of {channels} channel{'' if channels == 1 else 's'}, and these have {have}",
            "Give images of as many channels; only grey and three colours are shown as each other.",
        )
    return images.mean(1, keepdim=True) if channels == 1 else images.expand(-1, 3, -1, -1)


def fitted(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value for each of ``channels``: as they are, repeated in order where there are more, their mean for one."""
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[channel % len(values)] for channel in range(channels))


def require_values(normalise: tuple[Sequence[float], Sequence[float]], channels: int, where: object) -> None:
    """Raise :class:`UsageError` where a (mean, std) for the network in ``where`` is for another number of channels."""
    sizes = [len(values) for values in normalise]
    if sizes == [channels, channels]:
        return
    blank = ", ".join("x" * channels)
    raise UsageError(
        f"{where} reads images of {channels} channel{'' if channels == 1 else 's'}, but the normalisation has "
        f"{sizes[0]} mean{'' if sizes[0] == 1 else 's'} and {sizes[1]} deviation{'' if sizes[1] == 1 else 's'}",
        f"Give one value for each channel: teacher.normalise={{mean: [{blank}], std: [{blank}]}}, or none, half or "
        "auto; in Python normalise=(mean, std).",
    )
