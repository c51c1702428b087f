"""Images as a network reads them, and their normalisations: grey for colour, colour for grey, a frame for each step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from idsnn_cli.errors import UsageError

MEAN, IMAGE = 0, -1
"""What :func:`shown` makes of frames where a network does not read them one by one: their mean, or an error."""


def shown(images: Tensor, channels: int, frames: int = MEAN) -> Tensor:
    """Float images (N, C, H, W) as a network of ``channels`` reads them, or recordings (N, T, C, H, W).

    One that reads one channel is shown the mean of three, and one that reads three is shown grey in each. Recordings
    become (T * N, C, H, W), the frames of one step after the other, where the network reads ``frames`` = T of them, and
    their mean (N, C, H, W) for ``MEAN``. Raises :class:`UsageError` for any other two numbers, recordings that a
    network of one ``IMAGE`` is given, and images that one of frames is.
    """
    images = images if images.dim() == 4 and frames <= MEAN else _stepped(images, frames)
    have = images.shape[1] if images.dim() == 4 else None
    if have is None or have == channels:
        return images
    if {have, channels} != {1, 3}:
        raise UsageError(
            f"the network reads images of {channels} channel{'' if channels == 1 else 's'}, and these have {have}",
            "Give images of as many channels; only grey and three colours are shown as each other.",
        )
    return images.mean(1, keepdim=True) if channels == 1 else images.expand(-1, 3, -1, -1)


def in_range(images: Tensor) -> bool:
    """Whether what images (N, C, H, W) hold was seen to be numbers of about 0 to 1; False where it cannot be looked at.

    Warns of what is far outside: images that are not divided by 255, or were normalised already, are classified all the
    same, and badly. Noise and attacks may leave 0 to 1 by half of it.
    """
    plain = type(images) is Tensor and not images.is_meta and images.numel()
    if not plain or (images.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    low, high = (float(end) for end in images.detach().aminmax())
    if low < -0.5 or high > 1.5:
        what = "are normalised already" if low < 0 else "are not divided by 255"
        warnings.warn(
            f"the images go from {low:.3g} to {high:.3g}, as if they {what}; the network reads 0 to 1 and normalises "
            "them itself",
            stacklevel=2,
        )
    return True


def mean_frame(images: Tensor) -> Tensor:
    """Recordings (N, T, C, H, W) as the image (N, C, H, W) that an ANN reads; images as they are."""
    return _stepped(images, MEAN)


def _stepped(images: Tensor, frames: int) -> Tensor:
    """Recordings as a network of so many ``frames`` reads them; what is neither these nor images is left as it is."""
    recorded = images.dim() == 5
    if frames == MEAN or not (recorded or images.dim() == 4):
        return images.mean(1) if recorded else images
    if recorded and images.shape[1] == frames:
        return images.transpose(0, 1).flatten(0, 1)
    found = f"recordings of {images.shape[1]} frames" if recorded else "images"
    alone = "Measure it on images; a stream's frames are steps of their own: model.step(frames[:, t])."
    fix = alone if frames == IMAGE else f"Bin recordings to {frames} frames: (N, {frames}, C, H, W)."
    reads = "one image, which it repeats" if frames == IMAGE else f"{frames} frames, one at each time step"
    raise UsageError(f"the network reads {reads}, and these are {found}", fix)


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
