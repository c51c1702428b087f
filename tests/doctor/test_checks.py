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
from findings import only

from idsnn_cli.doctor import libraries, machine
from idsnn_cli.doctor.examination import examine
from idsnn_cli.doctor.libraries import check_torch, check_versions, requirements, unmet_requirement

Usage = namedtuple("Usage", "total used free")


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
