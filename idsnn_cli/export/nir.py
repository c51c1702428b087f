"""NIR, the graph of neurons that simulators and neuromorphic chips read (Pedersen et al. 2024)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idsnn_cli.architecture import DECAY_LOGIT, Architecture
from idsnn_cli.checkpoint import atomic_path
from idsnn_cli.export.base import Compared, Format, Images, Student
from idsnn_cli.version import __version__


class Nir(Format):
    """Convolutions with BatchNorm in them, neurons, a mean and a linear layer; sums are edges into one node.

    The input normalisation cannot be a node: zero padding comes behind it, so that in the first kernel it would be
    wrong at the borders. It is said in the graph's metadata, with what idsnn reads the file back by.
    """

    suffixes = (".nir",)
    key = "nir"
    words = "the graph of neurons that simulators and chips read"
    sized = True
    extra = ("nir", ("nir", "h5py"))

    def require(self, architecture: Architecture, where: object) -> None:
        from idsnn_cli.exchange.nir_writing import require_sayable

        require_sayable(architecture, where)

    def write(self, student: Student, target: Path) -> tuple[str, dict[str, Any]]:
        # NIR's package and HDF5 are installed by an extra.
        import nir

        from idsnn_cli.exchange.drawing import DT
        from idsnn_cli.exchange.nir_writing import draw

        architecture, size = student.architecture, student.image_size()
        state = {name: value.numpy() for name, value in student.model.state_dict().items()}
        metadata = _metadata(student, DT)
        graph = draw(architecture, state, size, metadata)
        with atomic_path(target) as temporary:
            nir.write(temporary, graph)
        neurons = [node for node in graph.nodes.values() if type(node).__name__ in ("LIF", "IF")]
        facts = {
            "nodes": len(graph.nodes),
            "edges": len(graph.edges),
            "neurons": sum(int(node.v_threshold.size) for node in neurons),
            "image_size": list(size),
            "timesteps": architecture.timesteps,
            "input": metadata["input"],
            "input_mean": metadata["input_mean"].tolist(),
            "input_std": metadata["input_std"].tolist(),
            "dt": DT,
        }
        return architecture.describe(), facts

    def tell(self, facts: Mapping[str, Any]) -> str:
        height, width = facts["image_size"]
        return (
            f"{facts['nodes']} nodes, {facts['edges']} edges and {facts['neurons']:,} neurons for images of "
            f"{height}x{width}; BatchNorm is in the kernels. At each of {facts['timesteps']} steps of {facts['dt']:g} "
            f"s give it {facts['input']}; the answer is the mean of its outputs."
        )

    def verify(self, student: Student, target: Path, seen: Images) -> tuple[Compared, ...]:
        from idsnn_cli.export._nir_readers import verify

        return verify(student, target, seen)

    def next(self, target: Path) -> str | None:
        return f"idsnn inspect {target}"


def _metadata(student: Student, dt: float) -> dict[str, Any]:
    """What the file says of itself: to any reader of NIR in plain words, and to idsnn as JSON."""
    model, architecture = student.model, student.architecture
    mean, std = (each.detach().double().flatten() for each in (model.input.mean, model.input.std))
    if architecture.coding == "poisson":
        entry = "spikes: 1 where a new uniform number is below the pixel, which is in 0 to 1"
    else:
        shown = ["/".join(f"{value:.4g}" for value in each.tolist()) for each in (mean, std)]
        what = "the step's own frame x" if architecture.coding == "frames" else "images x in 0 to 1"
        entry = f"(x - {shown[0]}) / {shown[1]} of {what}"
    own = {"format_version": 1, **student.metadata, "architecture": architecture.to_dict()}
    own |= {"input": {"mean": mean.tolist(), "std": std.tolist()}, "source_sha256": student.sha256}
    if architecture.learn_decay == "layer":
        # The graph has the decays, of which not every logit could be found again.
        state = model.state_dict()
        logits = {act: float(state[f"{act}.{DECAY_LOGIT}"]) for act in architecture.neuron_layers()}
        own |= {"decay_logits": logits}
    return {
        "idsnn": json.dumps(own, sort_keys=True),
        "writer": f"idsnn-cli {__version__}",
        "input": entry,
        "input_mean": mean.numpy(),
        "input_std": std.numpy(),
        "timesteps": architecture.timesteps,
        "dt": dt,
        "readout": "the mean of the output over the time steps",
    }


FORMAT = Nir()
