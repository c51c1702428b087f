from __future__ import annotations

import importlib
import importlib.metadata
import re
import tomllib
from collections import namedtuple
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from idsnn_cli import systems
from idsnn_cli.architecture import Neuron
from idsnn_cli.doctor import devices as gpus
from idsnn_cli.doctor import libraries, machine
from idsnn_cli.doctor.examination import examine
from idsnn_cli.doctor.libraries import Check, check_torch, check_versions, requirements, unmet_requirement
from idsnn_cli.spiking import kernels
from idsnn_cli.spiking.verdict import Verdict

Usage = namedtuple("Usage", "total used free")


def only(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def versions_are(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    real = libraries.installed
    monkeypatch.setattr(libraries, "installed", lambda name: versions[name] if name in versions else real(name))


def torchvision_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def fail(name: str, package: str | None = None) -> ModuleType:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore of it")
        return real(name, package)

    monkeypatch.setattr("idsnn_cli.doctor.libraries.importlib.import_module", fail)


def asks_for(monkeypatch: pytest.MonkeyPatch, *lines: str, python: str = ">=3.11") -> None:
    """idsnn-cli's own package as these lines describe it."""
    about = Message()
    about["Requires-Python"] = python
    for extra in sorted({match[1] for line in lines if (match := re.search(r"extra == '(\w+)'", line))}):
        about["Provides-Extra"] = extra
    real = importlib.metadata.requires
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: about)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(lines) if name == "idsnn-cli" else real(name))


def test_every_library_that_the_package_imports_is_asked_for() -> None:
    """Else ``doctor`` could not miss it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    asked = {re.split("[>=.]", each)[0] for each in project["dependencies"]}
    imported = {
        match[1]
        for path in Path(libraries.__file__).parents[1].rglob("*.py")
        for match in re.finditer(r"^\s*(?:import|from) (\w+)", path.read_text(), re.MULTILINE)
    }
    assert {"PIL" if each == "pillow" else each for each in asked} <= imported
    assert "scipy" in asked


def test_versions_of_this_installation_are_fine() -> None:
    checks = check_versions()
    needed = [each.name for each in requirements("idsnn-cli")]
    assert [check.name for check in checks][: 2 + len(needed)] == ["python", "idsnn", *needed]
    assert "scipy" in needed
    assert {check.status for check in checks if not check.name.startswith("extra ")} == {"ok"}
    assert only(checks, "torch").found == importlib.metadata.version("torch")


def test_a_library_that_is_missing_or_too_old_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asks_for(monkeypatch, "rich>=13.7", "numpy>=1.26", "torch>=2.11", "never>=1; sys_platform == 'none'")
    versions_are(monkeypatch, rich=None, numpy="1.9.5", torch="2.11.0+cu130")
    checks = check_versions()
    assert only(checks, "rich").status == only(checks, "numpy").status == "missing"
    assert only(checks, "rich").fix == "pip install 'rich>=13.7'"
    assert only(checks, "numpy").fix == "pip install --upgrade 'numpy>=1.26'"
    assert only(checks, "numpy").found == "1.9.5, but >=1.26 is needed"
    assert only(checks, "torch").status == "ok"
    assert [check.name for check in checks] == ["python", "idsnn", "rich", "numpy", "torch"]


@pytest.mark.parametrize(
    ("specifier", "version", "status"),
    [
        (">=2.11", "2.9.1", "missing"),
        (">=0.5", "0.5.0", "ok"),
        (">=0.5", "0.5.1rc1", "ok"),
        (">=13.7", "13.6.99", "missing"),
        (">=2.11", "2.11", "ok"),
        (">=2.11", "2.10.0+cu130", "missing"),
        (">=1", "a made up version", "missing"),
    ],
)
def test_versions_are_ordered_as_packages_order_them(
    monkeypatch: pytest.MonkeyPatch, specifier: str, version: str, status: str
) -> None:
    asks_for(monkeypatch, f"rich{specifier}")
    versions_are(monkeypatch, rich=version)
    assert only(check_versions(), "rich").status == status


def test_an_extra_stands_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asks_for(monkeypatch, "rich>=13.7", "numpy>=1.26; extra == 'arrays'", "never>=1; extra == 'more'")
    checks = check_versions()
    assert only(checks, "extra arrays").status == "ok"
    assert only(checks, "extra more").status == "warn"
    assert "never" in only(checks, "extra more").found
    assert only(checks, "extra more").fix == "pip install 'idsnn-cli[more]'"
    assert "numpy" not in {check.name for check in checks}


def test_a_python_that_is_too_old_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asks_for(monkeypatch, python=">=9.1")
    check = only(check_versions(), "python")
    assert (check.status, check.fix) == ("missing", "Install Python >=9.1.")


def test_a_source_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Message:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", fail)
    assert only(check_versions(), "requirements").status == "warn"


@pytest.mark.parametrize(
    ("requirement", "torch_version", "unmet"),
    [
        ("torch (==2.11.0)", "2.11.0+cu130", None),
        ("torch==2.11.0", "2.12.0", "==2.11.0"),
        ("torch (>=2.14.0)", "2.15.0", None),
        ("torch>=2.14.0,<2.15", "2.15.0", "<2.15,>=2.14.0"),
        ("torchaudio==1.0", "2.15.0", None),
        ('torch==1.0 ; extra == "old"', "2.15.0", None),
    ],
)
def test_what_torchvision_asks_of_torch(
    monkeypatch: pytest.MonkeyPatch, requirement: str, torch_version: str, unmet: str | None
) -> None:
    versions_are(monkeypatch, torch=torch_version)
    monkeypatch.setattr("idsnn_cli.doctor.libraries.importlib.metadata.requires", lambda _: ["numpy", requirement])
    assert unmet_requirement() == unmet


def test_torch_and_torchvision_fit_here() -> None:
    (check,) = check_torch()
    assert (check.name, check.status, check.fix) == ("torchvision fits", "ok", None)


def test_a_torchvision_of_another_torch_is_missing_and_pip_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision_fails(monkeypatch)
    monkeypatch.setattr(libraries, "unmet_requirement", lambda: "==2.10.0")
    versions_are(monkeypatch, torch="2.11.0")
    (check,) = check_torch()
    assert check.status == "missing"
    assert "operator torchvision::nms does not exist" in check.found
    assert "more of it" not in check.found
    assert check.fix == "pip install --upgrade 'torch==2.11.0' torchvision"


def test_builds_from_two_places_are_installed_again_from_where_torch_came(monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision_fails(monkeypatch)
    monkeypatch.setattr(libraries, "unmet_requirement", lambda: None)
    versions_are(monkeypatch, torch="2.11.0+cpu")
    (check,) = check_torch()
    assert check.fix == (
        "pip install --force-reinstall 'torch==2.11.0+cpu' torchvision --index-url https://download.pytorch.org/whl/cpu"
    )


def test_a_misfit_that_still_imports_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "unmet_requirement", lambda: "==2.10.0")
    (check,) = check_torch()
    assert check.status == "warn"
    assert "==2.10.0" in check.found


@pytest.mark.parametrize(
    ("driver", "cuda", "remarks", "status", "words"),
    [
        (False, "13.0", [], "ok", "no NVIDIA driver"),
        (False, None, [], "ok", "no NVIDIA driver"),
        (True, None, [], "warn", "built without CUDA"),
        (True, "13.0", ["The NVIDIA driver on your system is too old"], "warn", "is too old"),
        (True, "13.0", [], "warn", "finds no device"),
    ],
)
def test_why_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    driver: bool,
    cuda: str | None,
    remarks: list[str],
    status: str,
    words: str,
) -> None:
    file = tmp_path / "version"
    if driver:
        file.touch()
    monkeypatch.setattr(systems, "NVIDIA_DRIVER", file)
    check = gpus._no_gpu(cuda, remarks)
    assert check.status == status
    assert words in check.found
    assert (check.fix is None) == (status == "ok")


def cuda_stand_in(monkeypatch: pytest.MonkeyPatch, *, bf16: bool, fails: bool = False) -> None:
    """One GPU as torch.cuda would show it; ``fails`` as one that another process holds exclusively."""

    class Selected:
        def __init__(self, index: int) -> None:
            pass

        def __enter__(self) -> None:
            if fails:
                raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nSearch for ...")

        def __exit__(self, *error: object) -> None:
            pass

    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "device": Selected,
        "mem_get_info": lambda index: (30 * 10**9, 40 * 10**9),
        "is_bf16_supported": lambda including_emulation: bf16,
        "get_device_name": lambda index: "Stand-in 9000",
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize("bf16", [True, False])
def test_a_gpu_shows_its_memory_and_whether_it_has_bf16(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    cuda_stand_in(monkeypatch, bf16=bf16)
    checks, devices = gpus.check_devices()
    gpu = only(checks, "cuda:0")
    assert gpu.found.startswith("Stand-in 9000, 30.0 of 40.0 GB free")
    assert (gpu.status, gpu.fix) == ("ok", None)
    assert ("in bf16" in gpu.found, "in fp16" in gpu.found) == (bf16, not bf16)
    assert [device.name for device in devices] == ["cpu", "cuda:0"]
    assert (devices[1].memory_bytes, devices[1].bf16) == (40 * 10**9, bf16)


@pytest.mark.parametrize(
    ("verdict", "status", "words"),
    [
        (Verdict(True), "ok", "give what plain PyTorch gives"),
        (Verdict(False, "multiply-adds are contracted", "export PTXAS"), "warn", "multiply-adds are contracted"),
    ],
)
def test_a_gpu_says_whether_its_kernels_are_used_and_why_not(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, status: str, words: str
) -> None:
    cuda_stand_in(monkeypatch, bf16=False)
    asked: list[Any] = []

    def found(*about: Any) -> Verdict:
        asked.append(about)
        return verdict

    monkeypatch.setattr(kernels, "verdict", found)
    checks, devices = gpus.check_devices()
    assert asked == [(torch.device("cuda:0"), torch.float16, Neuron(), 4)]
    check = only(checks, "kernels cuda:0")
    assert (check.status, check.fix) == (status, verdict.fix)
    assert words in check.found
    assert [device.kernels for device in devices] == [None, verdict.used]


@pytest.mark.parametrize(
    ("said", "reason", "status", "found", "fix"),
    [
        (None, None, "ok", r"compiled by numba \d", ""),
        (None, "of another numpy", "warn", "numba does not work: of another numpy", "numba"),
        ("0", None, "ok", "IDSNN_FUSED is 0", ""),
    ],
)
def test_a_cpu_with_bf16_says_whether_its_neurons_are_compiled(
    monkeypatch: pytest.MonkeyPatch, said: str | None, reason: str | None, status: str, found: str, fix: str
) -> None:
    monkeypatch.setenv("IDSNN_CPU_BF16", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("idsnn_cli.spiking.compiled.maps.failure", lambda: reason)
    if said is not None:
        monkeypatch.setenv(kernels.SWITCH, said)
    kernels.forget()
    try:
        checks, _ = gpus.check_devices()
    finally:
        monkeypatch.undo()
        kernels.forget()
    check = only(checks, "kernels cpu")
    assert check.status == status
    assert re.search(found, check.found)
    assert fix in (check.fix or "")
    threads = only(checks, "cpu").found
    assert threads.endswith("trainings in bf16")
    assert "(OMP_NUM_THREADS=1)" in threads


def test_a_wrong_word_for_the_kernels_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDSNN_FUSED", "maybe")
    kernels.forget()
    try:
        check = only(gpus.check_devices()[0], "IDSNN_FUSED")
    finally:
        kernels.forget()
    assert (check.status, check.fix) == ("missing", "unset IDSNN_FUSED")
    assert "'maybe'" in check.found


def test_a_gpu_that_cannot_be_used_is_a_warning_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_stand_in(monkeypatch, bf16=True, fails=True)
    checks, devices = gpus.check_devices()
    assert "busy or unavailable" in only(checks, "cuda:0").found
    assert "Search for" not in only(checks, "cuda:0").found
    assert [device.name for device in devices] == ["cpu"]


def test_the_data_root_and_its_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_npz: Any) -> None:
    monkeypatch.setenv("IDSNN_DATA", str(tmp_path / "data"))
    checks = machine.check_data()
    assert only(checks, "data root").status == "warn"
    assert only(checks, "data root").fix == f"mkdir -p {tmp_path / 'data'}"
    assert only(checks, "digits").status == "ok"
    assert only(checks, "cifar10").fix == "idsnn run cifar10 data.download=true"
    tiny_npz(tmp_path / "data" / "cifar10.npz")
    checks = machine.check_data()
    assert only(checks, "data root").status == "ok"
    assert (only(checks, "cifar10").status, only(checks, "cifar100").status) == ("ok", "warn")
    assert only(checks, "cifar10").found == "20 train, 10 test images"


@pytest.mark.parametrize("name", ["nmnist", "cifar10dvs", "dvsgesture"])
def test_recordings_that_are_not_there_are_said_to_be_missing(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not that a recipe's number of frames is, which no machine has."""
    monkeypatch.setenv("IDSNN_DATA", str(tmp_path))
    (found,) = [each for each in machine.check_data() if each.name == name]
    assert found.status == "warn"
    assert found.found.startswith(f"there is no {tmp_path}")
    assert "data.frames" not in f"{found.found} {found.fix}"


def test_a_damaged_data_set_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IDSNN_DATA", str(tmp_path))
    (tmp_path / "cifar10.npz").write_bytes(b"no zip")
    check = only(machine.check_data(), "cifar10")
    assert check.status == "warn"
    assert "cifar10.npz" in check.found


def test_without_idsnn_data_the_cache_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IDSNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    check = only(machine.check_data(), "data root")
    assert str(tmp_path / "idsnn") in check.found
    assert check.status == "ok"


@pytest.mark.parametrize(("free", "status"), [(50e9, "ok"), (1e9, "warn"), (0.1e9, "missing")])
def test_room_for_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, status: str) -> None:
    monkeypatch.setattr("idsnn_cli.doctor.machine.shutil.disk_usage", lambda path: Usage(100e9, 0, int(free)))
    (check,) = machine.check_disk(tmp_path / "runs")
    assert check.status == status
    assert f"{free / 1e9:.1f} GB free" in check.found


def test_a_folder_that_cannot_be_written_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("idsnn_cli.doctor.machine.os.access", lambda path, mode: False)
    (check,) = machine.check_disk(tmp_path / "a" / "b")
    assert check.status == "missing"
    assert str(tmp_path) in check.found


def test_ready_is_no_check_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert examine(tmp_path).ready
    versions_are(monkeypatch, rich=None)
    document = examine(tmp_path)
    assert not document.ready
    assert [check.name for check in document.checks if check.status == "missing"] == ["rich"]


@pytest.fixture
def tiny_npz() -> Any:
    import numpy as np

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        images = np.zeros((20, 8, 8, 3), np.uint8)
        labels = np.arange(20) % 10
        np.savez(path, train_images=images, train_labels=labels, test_images=images[:10], test_labels=labels[:10])

    return write
