"""BatchNorm over two processes (gloo) against one process on the whole batch, in float64; an empty shard too."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.errors import DataError
from idsnn_cli.initializer import reestimate
from idsnn_cli.models import build
from idsnn_cli.spiking import BatchNorm

pytestmark = pytest.mark.slow

# Images of the first process; the second has the rest of six.
SHARDS = {"even": 3, "uneven": 5, "empty": 6}
REPEATS = (1, 4)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Maps far from 0 (a sum of squares would cancel) and the gradient that comes back."""
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn((6, 3, 2, 5), generator=generator, dtype=torch.float64) for _ in range(2))
    return 1000 + x, grad


def layer() -> BatchNorm:
    norm = BatchNorm(3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -2.0, 1.5]))
        norm.bias.copy_(torch.tensor([0.1, 0.0, -3.0]))
    return norm


def network() -> torch.nn.Module:
    description = build_description(
        "spiking-resnet8", 4, width=4, timesteps=3, neuron=Neuron(surrogate="sigmoid", surrogate_scale=4.0)
    )
    return build(description, seed=1).double()


def images() -> torch.Tensor:
    return torch.rand((6, 3, 8, 8), generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def one_step(model: torch.nn.Module, part: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a loss that is a sum over images, and the buffers after the step."""
    model.train()
    (model(part) ** 2).sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**grads, **{name: b.clone() for name, b in model.named_buffers()}}


def one_layer(x: torch.Tensor, grad: torch.Tensor, repeat: int) -> dict[str, torch.Tensor]:
    norm, leaf = layer(), x.clone().requires_grad_()
    y = norm(leaf, repeat)
    y.backward(grad)
    assert leaf.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    buffers = {name: b.clone() for name, b in norm.named_buffers()}
    return {"y": y.detach(), "x.grad": leaf.grad, "weight": norm.weight.grad, "bias": norm.bias.grad, **buffers}


def part_of(rank: int, first: int) -> slice:
    return slice(0, first) if rank == 0 else slice(first, 6)


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        torch.save(measure(rank), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def measure(rank: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    x, grad = batch()
    for name, first in SHARDS.items():
        mine = part_of(rank, first)
        for repeat in REPEATS:
            found[f"layer {name} {repeat}"] = one_layer(x[mine], grad[mine], repeat)
        found[f"network {name}"] = one_step(network(), images()[mine])
    single = layer()
    try:
        single(torch.zeros((1 - rank, 3, 1, 1), dtype=torch.float64), 4)
    except DataError as error:
        found["single value"] = error.message
    found["counted"] = single.get_buffer("num_batches_tracked")
    if rank == 0:
        # The main process re-estimates while the others wait at a barrier.
        model = network()
        reestimate(model, [images()])
        found["reestimated"] = model.state_dict()
    dist.barrier()
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    spawn(worker, (str(folder),), nprocs=2)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("repeat", REPEATS)
@pytest.mark.parametrize("shards", sorted(SHARDS))
def test_the_layer_is_that_of_one_process(found: list[dict[str, Any]], shards: str, repeat: int) -> None:
    wanted = one_layer(*batch(), repeat)
    first, second = (result[f"layer {shards} {repeat}"] for result in found)
    for name in ("y", "x.grad"):
        torch.testing.assert_close(torch.cat([first[name], second[name]]), wanted[name], rtol=1e-9, atol=1e-12)
    for name in ("weight", "bias"):
        # Each process has its own share of the parameters' gradients.
        torch.testing.assert_close(first[name] + second[name], wanted[name], rtol=1e-9, atol=1e-12)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], wanted[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shards", sorted(SHARDS))
def test_a_spiking_network_learns_as_on_one_process(found: list[dict[str, Any]], shards: str) -> None:
    model = network()
    wanted = one_step(model, images())
    first, second = (result[f"network {shards}"] for result in found)
    trained = [name for name, _ in model.named_parameters()]
    assert any(first[name].abs().max() > 0 for name in trained)
    for name in wanted:
        joint = first[name] + second[name] if name in trained else first[name]
        torch.testing.assert_close(joint, wanted[name], rtol=1e-9, atol=1e-10)
        assert name in trained or torch.equal(first[name], second[name])


def test_a_single_value_over_all_processes_is_refused_in_each(found: list[dict[str, Any]]) -> None:
    for result in found:
        assert "single value" in result["single value"]
        assert result["counted"] == 0


def test_reestimation_takes_one_process(found: list[dict[str, Any]]) -> None:
    model = network()
    reestimate(model, [images()])
    for name, wanted in model.state_dict().items():
        torch.testing.assert_close(found[0]["reestimated"][name], wanted, rtol=1e-12, atol=1e-12)
