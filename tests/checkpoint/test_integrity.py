"""A file of torch.save is looked at before torch reads it: whole, and asking for nothing odd."""

from __future__ import annotations

import io
import pickle
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.checkpoint.integrity import check_archive, check_pickle
from idsnn_cli.errors import CheckpointError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "net.pth"
    torch.save({"conv.weight": torch.randn(8, 3, 3, 3), "bn.running_mean": torch.randn(8), "epoch": 3}, path)
    return path


def test_one_flipped_bit_anywhere_in_an_entry_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size]
    draw = random.Random(0)
    for entry in entries:
        # A local header is 30 bytes, the name and the padding that aligns the storage.
        name, extra = struct.unpack("<HH", whole[entry.header_offset + 26 : entry.header_offset + 30])
        start = entry.header_offset + 30 + name + extra
        for _ in range(8):
            place = start + draw.randrange(entry.file_size)
            damaged = bytearray(whole)
            damaged[place] ^= 1 << draw.randrange(8)
            saved.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=f"(?s)damaged.*{entry.filename}.*CRC-32"):
                open_checkpoint(saved)
    saved.write_bytes(whole)
    with open_checkpoint(saved) as file:
        assert file.shape("conv.weight") == (8, 3, 3, 3)


def test_an_archive_without_checksums_is_read(saved: Path) -> None:
    """torch can be told not to compute them."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(4)}, saved)
    finally:
        torch.serialization.set_crc32_options(True)
    with open_checkpoint(saved) as file:
        assert torch.equal(file.get("a"), torch.ones(4))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_entry_that_stands_twice_is_refused(saved: Path, tmp_path: Path) -> None:
    """torch reads the last, others the first."""
    path = tmp_path / "twice.pth"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
            if entry.filename.endswith("data/0"):
                new.writestr(entry.filename, bytes(entry.file_size))
    with pytest.raises(CheckpointError, match=r"'net/data/0' stands twice"):
        open_checkpoint(path)


def test_a_cut_archive_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for size in (30, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            check_archive(saved)


@pytest.mark.parametrize("letters", [400, 60_000])
def test_the_length_of_an_imported_name_is_bounded(letters: int) -> None:
    content = b"\x80\x02c" + b"m" * letters + b"\nname\n)R."
    if letters < 500:
        check_pickle(Path("x"), content, len(content))
        return
    with pytest.raises(CheckpointError, match=r"a name of 60,005 letters") as caught:
        check_pickle(Path("x"), content, len(content))
    assert len(caught.value.message) < 300


def test_bytes_made_of_a_number_are_bounded(tmp_path: Path) -> None:
    def asking(number: int) -> bytes:
        return b"\x80\x02cbuiltins\nbytearray\n" + b"\x8a\x08" + struct.pack("<q", number) + b"\x85R."

    check_pickle(Path("x"), asking(1000), 40)
    with pytest.raises(CheckpointError, match=r"asks for 2,147,483,648 bytes, and the file has 40"):
        check_pickle(Path("x"), asking(2**31), 40)
    # Behind another pickle, as in the old format.
    with pytest.raises(CheckpointError, match="asks for"):
        check_pickle(Path("x"), pickle.dumps({"a": 1}, 2) + asking(2**31), 40)
    path = tmp_path / "asks.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("asks/data.pkl", asking(2**31))
        archive.writestr("asks/version", "3\n")
    with pytest.raises(CheckpointError, match="asks for"):
        open_checkpoint(path)


def test_numbers_that_make_no_bytes_may_be_of_any_size() -> None:
    stream = io.BytesIO()
    torch.save({"seed": 2**62, "a": torch.zeros(2)}, stream)
    with zipfile.ZipFile(stream) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        check_pickle(Path("x"), archive.read(name), 100)
