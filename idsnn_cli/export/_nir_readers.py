"""A written NIR file run by what reads NIR: numpy from the graph alone, snnTorch and SpikingJelly."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nir
import torch
from torch import Tensor, nn

from idsnn_cli.exchange.interpreter import NEURONS, Interpreter
from idsnn_cli.exchange.nir_reading import read_graph
from idsnn_cli.export._comparing import Run, Spikes, compare, inputs, left_out, reference, run_with_spikes
from idsnn_cli.export.base import Compared, Images, Student
from idsnn_cli.extras import missing
from idsnn_cli.models import Model

DTYPE = torch.float64
# A reader's network: one step of the input to the output, with what its layers of neurons gave; and its start at 0.
Step = Callable[[Tensor], Tensor]


def verify(student: Student, target: Path, seen: Images) -> tuple[Compared, ...]:
    """The file beside the student in float64, by every reader that is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other libraries say about themselves
        return tuple(_readers(student, target, seen))


def _readers(student: Student, target: Path, seen: Images) -> Iterator[Compared]:
    model = reference(student, DTYPE)
    graph = read_graph(target)
    layers = {name: name.removesuffix(".join") for name, node in graph.nodes.items() if type(node).__name__ in NEURONS}

    def ours(images: Tensor) -> tuple[Tensor, Spikes]:
        return run_with_spikes(model, images, layers)

    yield compare("numpy from the graph", ours, _numpy(graph, model), seen, DTYPE, model)
    for title, package, needs, make in (
        ("snnTorch", "snntorch", ("snntorch", "nirtorch"), _snntorch),
        ("SpikingJelly", "spikingjelly", ("spikingjelly", "nirtorch"), _spikingjelly),
    ):
        lacking = missing(*needs)
        if lacking:
            yield left_out(title, seen, DTYPE, f"{' and '.join(lacking)} not installed")
            continue
        reader = f"{title} {version(package)}"
        try:
            theirs = make(target, model, list(layers))
        except Exception as error:  # an importer of others raises what it likes
            yield left_out(reader, seen, DTYPE, f"its importer refuses the graph: {error}")
        else:
            yield compare(reader, ours, theirs, seen, DTYPE, model)


def _numpy(graph: nir.NIRGraph, model: Model) -> Run:
    interpreter = Interpreter(graph)

    def run(images: Tensor) -> tuple[Tensor, Spikes]:
        interpreter.reset()
        steps = [interpreter.step(each.numpy()) for each in inputs(model, images)]
        spikes = {name: torch.stack([torch.from_numpy(each[1][name]) for each in steps]) for name in steps[0][1]}
        return torch.stack([torch.from_numpy(each[0]) for each in steps]), spikes

    return run


def _snntorch(target: Path, model: Model, layers: list[str]) -> Run:
    import snntorch
    from snntorch.import_nir import import_from_nir

    graph = nir.read(target)
    if any(isinstance(node, nir.IF) for node in graph.nodes.values()):
        raise ValueError("it reads IF as a leaky neuron of decay 0.9")
    # It prints as it goes.
    with contextlib.redirect_stdout(io.StringIO()):
        net = import_from_nir(graph)
    net.to(DTYPE)
    # Its importer and its spikes are float32: the values of the file are put back, and spikes take the membrane's type.
    for name, node in graph.nodes.items():
        if isinstance(node, nir.Conv2d | nir.Affine):
            module = _module(net, name)
            module.weight.data = torch.from_numpy(node.weight).to(DTYPE)
            module.bias.data = torch.from_numpy(node.bias).to(DTYPE)
        elif isinstance(node, nir.LIF):
            leaky = _module(net, name)
            leaky.beta = torch.from_numpy(1 - 1e-4 / node.tau)
            leaky.threshold = torch.tensor(float(node.v_threshold.flat[0]), dtype=DTYPE)
            leaky.spike_grad = lambda above: (above > 0).to(above.dtype)

    def start() -> Step:
        for module in net.modules():
            if isinstance(module, snntorch.Leaky):
                module.mem = torch.zeros(0, dtype=DTYPE)
        return lambda x: net(x)[0]

    return _steps(net, layers, model, start)


def _spikingjelly(target: Path, model: Model, layers: list[str]) -> Run:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    net = import_from_nir(str(target), dtype=DTYPE)

    def start() -> Step:
        state: Any = None

        def step(x: Tensor) -> Tensor:
            nonlocal state
            output, state = net(x, state)
            return output  # type: ignore[no-any-return]  # a module's call is untyped

        return step

    return _steps(net, layers, model, start)


def _module(net: nn.Module, name: str) -> Any:
    """The module of a node: nirtorch writes its name without dots."""
    return net.get_submodule(name.replace(".", "_"))


def _steps(net: nn.Module, layers: list[str], model: Model, start: Callable[[], Step]) -> Run:
    """All steps of a network of one step, its neurons watched."""

    @torch.no_grad()
    def run(images: Tensor) -> tuple[Tensor, Spikes]:
        seen: dict[str, list[Tensor]] = {name: [] for name in layers}
        handles = []
        for name in layers:

            def keep(_: Any, __: Any, output: Any, name: str = name) -> None:
                spikes = output[0] if isinstance(output, tuple) else output
                seen[name].append(spikes.detach().clone())

            handles.append(_module(net, name).register_forward_hook(keep))
        try:
            step = start()
            logits = torch.stack([step(each) for each in inputs(model, images)])
        finally:
            for handle in handles:
                handle.remove()
        return logits, {name: torch.stack(spikes) for name, spikes in seen.items()}

    return run
