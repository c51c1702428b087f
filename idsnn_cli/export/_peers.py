"""What students in the names of other libraries have in common: a state dict, and the lines of Python that read it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from idsnn_cli.architecture import DECAY_LOGIT, Architecture
from idsnn_cli.checkpoint import atomic_path
from idsnn_cli.errors import UsageError
from idsnn_cli.export._comparing import Spikes, compare, inputs, left_out, reference
from idsnn_cli.export.base import Compared, Format, Images, Student
from idsnn_cli.extras import missing
from idsnn_cli.models import Model
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

State = Mapping[str, Tensor]


class Peer(Format):
    """A library by its ``title`` and the ``package`` to import; it is needed to run the file, not to write it."""

    suffixes = ()
    title: str
    package: str

    def require(self, architecture: Architecture, where: object) -> None:
        self.network(architecture, where)

    def network(self, architecture: Architecture, where: object) -> ResNetArchitecture:
        """The network as one that the library's lines can build. Raises :class:`UsageError`, naming what they cannot.

        What no library says is refused here; each adds its own.
        """
        if not isinstance(architecture, ResNetArchitecture) or architecture.spiking is None:
            what = "no Spiking ResNet" if architecture.spiking is None else f"a {architecture.name}"
            raise UsageError(f"{where} is {what}, for which there are no lines here", "Use --format nir, onnx or pt2.")
        if architecture.gains:
            raise UsageError(f"the neurons of {where} have thresholds of their own", "Use --format nir, onnx or pt2.")
        if architecture.amplitude != "one":
            after = "" if architecture.scaled_shortcuts else "Fold them (--format fold) first. "
            fix = f"{after}Use --format nir, onnx or pt2."
            raise UsageError(f"the spikes of {where} count other than 1 ({architecture.amplitude} amplitudes)", fix)
        return architecture

    @abstractmethod
    def names(self, architecture: ResNetArchitecture) -> dict[str, str]:
        """The library's name of every canonical tensor but the input's."""

    def more(self, architecture: ResNetArchitecture, state: State, dtype: torch.dtype) -> dict[str, Tensor]:
        """Tensors of the library's that are none of the network's, but for the decays in its ``state``."""
        return {}

    @abstractmethod
    def lines(self, architecture: ResNetArchitecture, dtype: torch.dtype, target: Path) -> list[str]:
        """Python that makes ``net`` of the file."""

    @abstractmethod
    def calls(self, architecture: ResNetArchitecture) -> list[str]:
        """Python that makes ``logits`` (T, N, K) of ``x`` (T, N, C, H, W) by ``net``."""

    def write(self, student: Student, target: Path) -> tuple[str, dict[str, Any]]:
        architecture = self.network(student.architecture, student.path)
        model, dtype = student.model, student.model.head.weight.dtype
        state, names = model.state_dict(), self.names(architecture)
        own = [name for name in state if not name.startswith("input.") and not name.endswith(f".{DECAY_LOGIT}")]
        theirs = {names[name]: state[name].contiguous() for name in own}
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            torch.save(theirs | self.more(architecture, state, dtype), file)
        code = [
            *self.lines(architecture, dtype, target),
            *input_lines(model),
            *self.calls(architecture),
        ]
        return architecture.describe(), {"library": self.title, "tensors": len(theirs), "code": code}

    def tell(self, facts: Mapping[str, Any]) -> str:
        head = f"{facts['tensors']} tensors in {facts['library']}'s names. On images (N, C, H, W) in 0 to 1 run:"
        return "\n".join([head, "", *facts["code"]])

    def verify(self, student: Student, target: Path, seen: Images) -> tuple[Compared, ...]:
        dtype = torch.float64
        if missing(self.package):
            return (left_out(self.title, seen, dtype, f"{self.package} is not installed"),)
        from importlib.metadata import version

        reader = f"{self.title} {version(self.package)}"
        architecture = self.network(student.architecture, student.path)
        model, space = reference(student, dtype), dict[str, Any]()
        code = "\n".join(self.lines(architecture, dtype, target))
        calls = "\n".join(self.calls(architecture))
        try:
            exec(compile(code, f"<lines for {self.title}>", "exec"), space)  # our own lines
        except Exception as error:  # a library of another version raises what it likes
            return (left_out(reader, seen, dtype, f"its lines fail: {error}"),)

        @torch.no_grad()
        def ours(images: Tensor) -> tuple[Tensor, Spikes]:
            return model(images), {}

        @torch.no_grad()
        def theirs(images: Tensor) -> tuple[Tensor, Spikes]:
            space["x"] = inputs(model, images)
            exec(compile(calls, f"<lines for {self.title}>", "exec"), space)
            return space["logits"], {}

        return (compare(reader, ours, theirs, seen, dtype, model),)


def input_lines(model: Model) -> list[str]:
    """Python that makes ``x`` (T, N, C, H, W) of ``images`` as the student does."""
    if model.encoder is not None:
        return [f"x = (torch.rand({model.timesteps}, *images.shape) < images).to(images.dtype)  # Poisson coding"]
    mean, std = (plain(each.flatten().tolist()) for each in (model.input.mean, model.input.std))
    if model.architecture.coding == "frames":
        entry = f"x = ((images - mean) / std).transpose(0, 1)  # of recordings (N, {model.timesteps}, C, H, W)"
    else:
        entry = f"x = ((images - mean) / std).expand({model.timesteps}, *images.shape)"
    return [
        f"mean, std = (torch.tensor(values, dtype=images.dtype).view(-1, 1, 1) for values in ({mean}, {std}))",
        entry,
    ]


def plain(values: Sequence[float]) -> str:
    """Numbers as Python reads them back, without what float32 adds."""
    return f"[{', '.join(repr(short(value)) for value in values)}]"


def short(value: float) -> float:
    """The shortest number that is the same in float32, where ``value`` is one of float32."""
    return float(str(np.float32(value))) if float(np.float32(value)) == value else value


def stage_shapes(architecture: ResNetArchitecture) -> list[tuple[int, int, int]]:
    """(width, blocks, stride) of every stage."""
    rows = zip(architecture.widths, architecture.depths, strict=True)
    return [(width, depth, architecture.block_stride(stage, 0)) for stage, (width, depth) in enumerate(rows)]


def above(value: float, dtype: torch.dtype) -> float:
    """The next number of ``dtype``: v >= that is v > ``value``."""
    if dtype == torch.float64:
        return math.nextafter(value, math.inf)
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))
