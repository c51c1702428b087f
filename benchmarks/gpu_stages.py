"""The stages of ``gpu.py``, each run by it in a process of its own:

    python benchmarks/gpu_stages.py NAME --device cuda --into found.json --limit 60 [--tiny]

A stage tells its figures as they come; the file is then written anew. Without a GPU a recorder that does the work again
stands for the graph, so that all but what needs CUDA runs in the tiny form.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gpu_scene import Scene, forget_peaks, kernels, median, peaks

ROOT = Path(__file__).resolve().parents[1]
STEPS, EPOCH_IMAGES = 20, 50_000
GPU_TESTS = (
    "tests/spiking/test_self_check.py",
    "tests/training/test_step_graph.py",
    "tests/spiking/test_triton_chain.py",
    "tests/spiking/test_triton_lif.py",
)
# Sets of maps that one pass after another reads, so that none finds its own in a cache (50 MB on an H100).
SETS = 12


def versions(scene: Scene) -> None:
    """The machine, what it lacks, and whether the kernels pass the self-check, with the seconds that it takes."""
    needed = "torch torchvision triton pydantic ruamel.yaml safetensors scipy filelock typer rich packaging PIL numpy"
    needed += " pytest xdist hypothesis"
    scene.tell(python=sys.version.split()[0], lacking=[name for name in needed.split() if not there(name)])
    import torch

    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    scene.tell(torch=torch.__version__, cuda=torch.version.cuda, cudnn=str(cudnn))
    if scene.device == "cpu":
        return
    device = torch.device(scene.device)
    about = torch.cuda.get_device_properties(device)
    scene.tell(
        gpu=about.name,
        capability=[about.major, about.minor],
        multiprocessors=about.multi_processor_count,
        memory_bytes=about.total_memory,
    )
    import triton

    from idsnn_cli.architecture import Neuron
    from idsnn_cli.spiking.kernels import verdict

    scene.tell(triton=triton.__version__)
    for dtype in (torch.bfloat16, torch.float32):
        started = time.perf_counter()
        found = verdict(device, dtype, Neuron(), 4)
        name = str(dtype).removeprefix("torch.")
        scene.tell(
            **{f"kernels_{name}": found.reason or "sound", f"check_seconds_{name}": time.perf_counter() - started}
        )


def there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def tests(scene: Scene) -> None:
    """The kernels' and the graph's tests, in parallel, going on after failures; what was done in time is counted."""
    targets = ("tests/spiking/test_surrogates.py",) if scene.tiny else GPU_TESTS
    workers = "0" if scene.tiny else str(min(os.cpu_count() or 1, 12))
    command = [sys.executable, "-m", "pytest", "-v", "-n", workers, "-p", "no:cacheprovider", "--tb=line", *targets]
    passed, failed = 0, list[str]()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(line)
        # With workers the result stands before the test, without behind it.
        result = re.search(r"\b(PASSED|FAILED|ERROR)\b", line)
        test = re.search(r"tests/\S+::\S+", line)
        if result and test and "::" in line and not line.startswith(("FAILED", "ERROR")):
            passed += result[1] == "PASSED"
            failed += [test[0]] if result[1] != "PASSED" else []
            scene.tell(passed=passed, failed=failed)
    code = process.wait()
    scene.tell(exit_code=code, passed=passed, failed=failed)


def equality(scene: Scene) -> None:
    """The captured step against the same step as it is: losses and weights over 20 steps at batch 64."""
    from step import describe, trained

    case, place = "distill-b64", scene.place
    size = describe(case, scene.tiny)[1]
    pair = [trained(case, "ours", scene.tiny, place, recorder=recorder) for recorder in (scene.recorder, None)]
    losses: list[list[float]] = [[], []]
    for number in range(6 if scene.tiny else STEPS):
        images, labels = scene.batch(size)
        for each, into in zip(pair, losses, strict=True):
            each.step((images + 0.01 * number) % 1, labels)
            into.append(float(each.loss))
        scene.tell(losses_graph=losses[0], losses_eager=losses[1])
    gaps = [abs(a - b) / abs(b) for a, b in zip(*losses, strict=True)]
    graph, eager = (each.model.state_dict() for each in pair)
    # Weights and running statistics; what is zero on both sides is equal.
    apart = {
        name: float((graph[name] - value).norm() / value.norm().clamp(min=1e-12))
        for name, value in eager.items()
        if value.is_floating_point()
    }
    scene.tell(largest_loss_gap=max(gaps), first_loss_gap=gaps[0], largest_weight_gap=max(apart.values()))


def step(scene: Scene) -> None:
    """Seconds of a step from its graph at batch 64 and 256, by the algorithms that cuDNN chooses and by timed ones."""
    import torch
    from step import describe, trained

    from idsnn_cli.training.step_graph import WARM_UP

    for case in ("distill-b64", "distill-b256"):
        size = describe(case, scene.tiny)[1]
        images, labels = scene.batch(size)
        for timed in (False, True):
            torch.backends.cudnn.benchmark = timed
            forget_peaks(scene)
            each = trained(case, "ours", scene.tiny, scene.place, recorder=scene.recorder)
            for _ in range(WARM_UP + 1):
                each.step(images, labels)
            seconds = median(scene, partial(each.step, images, labels))
            name = f"{case}{'_timed' if timed else ''}".replace("-", "_")
            scene.tell(
                **{
                    f"{name}_ms": 1000 * seconds,
                    f"{name}_images_per_second": size / seconds,
                    f"{name}_peaks": peaks(scene),
                }
            )
            del each


def profile(scene: Scene) -> None:
    """The thirty kernels that take most of three eager steps, and all of them together."""
    import torch
    from step import describe, trained

    case = "distill-b64"
    images, labels = scene.batch(describe(case, scene.tiny)[1])
    each = trained(case, "ours", scene.tiny, scene.place)
    for _ in range(3):
        each.step(images, labels)

    def steps() -> None:
        for _ in range(3):
            each.step(images, labels)

    rows = kernels(scene, steps)
    total = sum(row["microseconds"] for row in rows)
    scene.tell(kernels_per_step=sum(row["calls"] for row in rows) / 3, ms_per_step=total / 3000, first=rows[:30])
    torch.cuda.empty_cache()


def chain(scene: Scene) -> None:
    """Each of the chain's kernels over maps that no cache holds: bytes a second by its account, beside a copy's."""
    import torch
    from measuring import copy_bandwidth

    from idsnn_cli.architecture import Neuron
    from idsnn_cli.spiking import LIF, BatchNorm, fire
    from idsnn_cli.spiking.triton.launch import bytes_per_neuron_step

    place = scene.place
    copied = copy_bandwidth(place.device, 9)
    scene.tell(copy_gb_per_second=copied / 1e9)
    images, pixels = (2, 4) if scene.tiny else (64, 32)
    shape = (4 * images, 64, pixels, pixels)
    neurons = math.prod(shape)

    def maps() -> torch.Tensor:
        drawn = torch.randn(shape, dtype=place.dtype, device=place.device)
        return drawn.to(memory_format=torch.channels_last)

    for joined in (False, True):
        norm, act = BatchNorm(64).to(place.device), LIF(Neuron(), 4)
        sets = [(maps().requires_grad_(), maps().requires_grad_() if joined else None, maps()) for _ in range(SETS)]

        def passes(sets: Any = sets, norm: Any = norm, act: Any = act) -> None:
            for x, residual, grad in sets:
                inputs = [each for each in (x, norm.weight, norm.bias, residual) if each is not None]
                torch.autograd.grad(fire(norm, act, x, residual), inputs, grad)

        passes()
        rows = kernels(scene, passes)
        account = bytes_per_neuron_step(place.dtype, 4, residual=joined)
        for row in rows:
            name = next((kernel for kernel in account if row["name"].startswith(kernel)), None)
            row["microseconds_each"] = row["microseconds"] / row["calls"]
            if name is not None:
                rate = account[name] * neurons / (row["microseconds_each"] * 1e-6)
                row |= {"gb_per_second": rate / 1e9, "of_copy": rate / copied}
        total = sum(row["microseconds"] for row in rows) / SETS * 1e-6
        word = "chain_residual" if joined else "chain"
        share = sum(account.values()) * neurons / total / copied
        scene.tell(**{f"{word}_us": total * 1e6, f"{word}_of_copy": share, f"{word}_kernels": rows})


def convolutions(scene: Scene) -> None:
    """The student's convolutions alone at batch 64, from graphs: what a step cannot be shorter than."""
    from measuring import convolution_floor
    from step import describe

    architecture, size = describe("distill-b64", scene.tiny)
    place = scene.place
    rounds = 1 if scene.tiny else 5
    floor = convolution_floor(architecture, size, rounds=rounds, device=place.device, dtype=place.dtype)
    scene.tell(floor_ms=1000 * floor)


def naive(scene: Scene) -> None:
    """Textbook code beside ours at batch 64: seconds, and peaks allocated and reserved."""
    import gc

    from step import describe, trained

    case = "distill-b64"
    size = describe(case, scene.tiny)[1]
    images, labels = scene.batch(size)
    found: dict[str, float] = {}
    for variant in ("ours", "naive"):
        forget_peaks(scene)
        each = trained(case, variant, scene.tiny, scene.place, recorder=scene.recorder if variant == "ours" else None)
        for _ in range(4):
            each.step(images, labels)
        found[variant] = median(scene, partial(each.step, images, labels), 5)
        scene.tell(**{f"{variant}_ms": 1000 * found[variant], f"{variant}_peaks": peaks(scene)})
        del each
        gc.collect()
    scene.tell(naive_over_ours=found["naive"] / found["ours"])


def fit(scene: Scene) -> None:
    """An epoch of `idsnn distill` at batch 64 over 50,000 random images: augmentation, teacher, step, saving."""
    import torch

    from idsnn_cli.architecture import Neuron, build_description
    from idsnn_cli.data import Split, TrainBatches, eval_batches
    from idsnn_cli.evaluation.accuracy import evaluate
    from idsnn_cli.models import build
    from idsnn_cli.recipe.schema import Augment, Training
    from idsnn_cli.training import Events, Fit, Objective
    from idsnn_cli.training import fit as train
    from idsnn_cli.training.loop import METRICS_INTERVAL

    class Told(Events):
        def say(self, message: str) -> None:
            scene.tell(said=[*scene.found.get("said", []), message])

        def batch_done(self, event: Any) -> None:
            if event.batch % (4 * METRICS_INTERVAL) == 0:
                scene.tell(batches=event.batch, images_per_second=event.seen / event.seconds)

    place, width = scene.place, 4 if scene.tiny else None
    count, size = (20, 4) if scene.tiny else (EPOCH_IMAGES, 64)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.arange(count) % 10).to(place.device)
    teacher = build(build_description("resnet34", 10, width=width), seed=1).eval().requires_grad_(False)
    student = build(build_description("spiking-resnet18", 10, width=width, timesteps=4, neuron=Neuron()), seed=0)
    batches = TrainBatches(split, batch_size=size, augment=Augment(), seed=0, device=place.device, fill=(0.5, 0.5, 0.5))
    few = Split(split.images[:1000], split.labels[:1000])
    with tempfile.TemporaryDirectory() as folder:
        work = Fit(
            name="distill",
            draws="distill",
            model=student,
            config=Training(epochs=1, batch_size=size, lr=0.01),
            objective=Objective.of({"alpha": 0.3}, teacher=teacher),
            batches=batches,
            measure=lambda model: evaluate(model, eval_batches(few, 256, place.device)),
            split="test",
            seed=0,
            precision="bf16" if place.gpu else "fp32",
            device=place.device,
            state_path=Path(folder) / "state.pt",
            save_every_minutes=10,
            on_best=lambda record: None,
            on_epoch=lambda history: None,
            events=Told(),
        )
        started = time.perf_counter()
        history = train(work)
    scene.tell(
        epoch_seconds=history[0]["seconds"],
        images_per_second=history[0]["images_per_second"],
        with_start_measure_and_save_seconds=time.perf_counter() - started,
        loss=history[0]["train_loss"],
    )


def plain(scene: Scene) -> None:
    """The step at batch 64 without Triton's kernels (IDSNN_FUSED=0)."""
    from step import describe, trained

    from idsnn_cli.spiking.kernels import setting

    case = "distill-b64"
    images, labels = scene.batch(describe(case, scene.tiny)[1])
    each = trained(case, "ours", scene.tiny, scene.place, recorder=scene.recorder)
    for _ in range(4):
        each.step(images, labels)
    scene.tell(setting=setting(), plain_ms=1000 * median(scene, partial(each.step, images, labels), 20))


def all_stages() -> Iterator[Callable[[Scene], None]]:
    yield from (versions, tests, equality, step, profile, chain, convolutions, naive, fit, plain)


def main() -> None:
    stages = {stage.__name__: stage for stage in all_stages()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--device", required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    scene = Scene(options.device, options.into, options.limit, tiny=options.tiny)
    if options.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            sys.exit(f"device is {options.device}, but torch finds no usable CUDA GPU")
    stages[options.stage](scene)


if __name__ == "__main__":
    main()
