"""Two processes (gloo) that run their steps from graphs, as nccl's do, train as one process without graphs does.

The recorder does the captured work again, on the captured tensors; it counts the replays, of which a batch of another
global size is none, though one process has as many images of it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from small_fits import BATCH, CONFIG, images, small_fit, student, weights
from test_step_graph import Heard, Notes, as_on_cuda
from torch import nn
from torch.multiprocessing.spawn import spawn

from idsnn_cli.data import TrainBatches
from idsnn_cli.recipe.schema import Augment
from idsnn_cli.training import fit
from idsnn_cli.training.processes import share_weights, sum_gradients
from idsnn_cli.training.step_graph import WARM_UP

pytestmark = pytest.mark.slow
# The last batch has 7: one process has as many of them as of a full batch.
COUNT = 2 * BATCH + 7


def trained(folder: Path, rank: int, world: int, notes: Notes, *, graph: bool = True) -> dict[str, Any]:
    """Three epochs of three steps in float64, without the host; from a graph where it says so."""
    folder.mkdir()
    split, model, heard = images(COUNT), student(), Heard()
    batches = TrainBatches(
        split,
        batch_size=BATCH,
        augment=Augment(),
        seed=5,
        device=torch.device("cpu"),
        fill=(0.5, 0.5, 0.5),
        rank=rank,
        world=world,
    )
    config = CONFIG.model_copy(update={"clip_norm": 1.0})
    work = small_fit(folder, model, config, batches=batches, precision="fp64", events=heard, cuda_graph=graph)
    with pytest.MonkeyPatch.context() as patch:
        as_on_cuda(patch, notes)
        history = fit(work)
    return {"weights": weights(model), "losses": [record["train_loss"] for record in history], "said": heard.said}


def exchanged(rank: int) -> dict[str, Any]:
    """Gradients of two dtypes and layouts, summed; weights of the main process in both."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last), nn.BatchNorm2d(3), nn.Linear(2, 2))
    model[2].double()
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 10.0 * number + rank)
    model[1].weight.grad = None
    own = {name: value.clone() for name, value in model.state_dict().items()}
    sum_gradients(model)
    share_weights(model)
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"own": own, "shared": model.state_dict(), "gradients": grads}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        notes = Notes()
        found = {**trained(Path(folder) / str(rank), rank, 2, notes), "did": notes.did, "exchanged": exchanged(rank)}
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    spawn(worker, (str(folder),), nprocs=2)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_graphs_of_two_processes_train_as_one_process(found: list[dict[str, Any]], tmp_path: Path) -> None:
    wanted = trained(tmp_path / "one", 0, 1, Notes(), graph=False)
    assert wanted["said"] == []
    for result in found:
        assert result["did"] == ["warm up"] * WARM_UP + ["record"] + ["replay"] * (6 - WARM_UP)
        assert len(result["said"]) == 1
        assert result["losses"] == pytest.approx(wanted["losses"], rel=1e-9)
        for name, value in wanted["weights"].items():
            torch.testing.assert_close(result["weights"][name], value, rtol=0, atol=1e-12, msg=name)


def test_gradients_are_summed_and_weights_shared(found: list[dict[str, Any]]) -> None:
    first, second = (result["exchanged"] for result in found)
    assert any(not torch.equal(first["own"][name], second["own"][name]) for name in first["own"])
    for name, value in first["own"].items():
        assert torch.equal(second["shared"][name], value)
    for number, (name, gradient) in enumerate(first["gradients"].items()):
        if name == "1.weight":
            assert gradient is None
            continue
        assert gradient.unique().tolist() == [20.0 * number + 1]
        assert torch.equal(second["gradients"][name], gradient)
