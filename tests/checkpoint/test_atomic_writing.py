"""Files are whole or untouched, whatever happens between the first byte and the rename."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from idsnn_cli.checkpoint import atomic_path, write_bytes, write_checkpoint, write_json, write_text
from idsnn_cli.errors import NonFiniteError, WriteError


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    dest = tmp_path / "result.bin"
    dest.write_bytes(b"old")
    with atomic_path(dest) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"new")
        assert dest.read_bytes() == b"old"
    assert dest.read_bytes() == b"new"
    assert names(tmp_path) == ["result.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_any_exception_leaves_the_destination_and_no_temporary(tmp_path: Path, error: type[BaseException]) -> None:
    dest = tmp_path / "result.bin"
    dest.write_bytes(b"old")

    def stop() -> None:
        with atomic_path(dest) as temporary:
            temporary.write_bytes(b"half")
            raise error("stop")

    with pytest.raises(error):
        stop()
    assert dest.read_bytes() == b"old"
    assert names(tmp_path) == ["result.bin"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_is_that_of_an_ordinary_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "a", b"1")
        with atomic_path(tmp_path / "b") as temporary:
            save_file({"w": torch.zeros(2)}, temporary)
        write_checkpoint(tmp_path / "c", {"w": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in "abc"} == {0o666 & ~umask}


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "real" / "result.bin")
    write_bytes(link, b"content")
    assert link.is_symlink()
    assert (tmp_path / "real" / "result.bin").read_bytes() == b"content"


def test_text_and_json_have_one_form(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": {"y": None, "x": "é"}})
    write_json(tmp_path / "b.json", {"a": {"x": "é", "y": None}, "b": [1, 2.5]})
    text = (tmp_path / "a.json").read_text()
    assert text == (tmp_path / "b.json").read_text()
    assert text.startswith('{\n  "a": {\n    "x"')
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": {"x": "é", "y": None}, "b": [1, 2.5]}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_numbers_that_it_cannot_hold_and_says_where(tmp_path: Path, bad: float) -> None:
    with pytest.raises(NonFiniteError, match=r"'rows\.1\.loss' is"):
        write_json(tmp_path / "a.json", {"rows": [{"loss": 1.0}, {"loss": bad}]})
    with pytest.raises(NonFiniteError, match=r"'loss' is"):
        write_checkpoint(tmp_path / "a.safetensors", {}, {"loss": bad})
    assert names(tmp_path) == []


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_by_the_next_write_of_that_file(tmp_path: Path) -> None:
    dest = tmp_path / "result.bin"
    other = tmp_path / "other.bin"
    code = """
        import os, signal, sys
        from pathlib import Path
        from idsnn_cli.checkpoint import atomic_path
        for path in sys.argv[1:]:
            child = os.fork()
            if child == 0:
                with atomic_path(Path(path)) as temporary:
                    temporary.write_bytes(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    """
    result = run_python(code, dest, dest, other)
    assert result.returncode == 0, result.stderr
    # A temporary and its lock for each; the second killed write removed what the first one left.
    assert sorted(Path(name).suffix for name in names(tmp_path)) == [".lock", ".lock", ".tmp", ".tmp"]
    write_bytes(dest, b"whole")
    left = names(tmp_path)
    assert len(left) == 3
    assert "result.bin" in left
    assert any(name.startswith(".other.bin.") for name in left)


def test_two_writers_of_one_file_do_not_take_each_others_temporary(tmp_path: Path) -> None:
    dest = tmp_path / "result.bin"
    with atomic_path(dest) as outer:
        outer.write_bytes(b"outer")
        worker = threading.Thread(target=write_bytes, args=(dest, b"inner"))
        worker.start()
        worker.join()
        assert dest.read_bytes() == b"inner"
    assert dest.read_bytes() == b"outer"
    assert names(tmp_path) == ["result.bin"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"no space left.*bytes .* free"),
        (errno.EDQUOT, "free"),
        (errno.EIO, "input/output"),
        (errno.EROFS, "read-only"),
    ],
)
def test_a_refusing_disk_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    dest = tmp_path / "result.bin"
    dest.write_bytes(b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WriteError, match=rf"(?s)result\.bin: could not be written.*{words}") as caught:
        write_bytes(dest, b"new")
    assert caught.value.fix
    assert "\n" not in caught.value.message
    monkeypatch.undo()
    assert dest.read_bytes() == b"old"
    assert names(tmp_path) == ["result.bin"]


@pytest.mark.parametrize("writer", ["bytes", "checkpoint", "torch", "torch-stream", "safetensors"])
def test_a_full_disk_leaves_the_previous_file_whole(tmp_path: Path, writer: str) -> None:
    dest = tmp_path / "result.bin"
    dest.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    tensors = {"weight": torch.zeros(100_000)}

    def write() -> None:
        if writer == "bytes":
            write_bytes(dest, bytes(400_000))
        elif writer == "checkpoint":
            write_checkpoint(dest, tensors, {})
        else:
            with atomic_path(dest) as temporary:
                if writer == "torch":
                    torch.save(tensors, temporary)
                elif writer == "torch-stream":
                    with temporary.open("wb") as stream:
                        torch.save(tensors, stream)
                else:
                    save_file(tensors, temporary)

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(WriteError) as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(dest) in caught.value.message
    assert caught.value.fix
    assert dest.read_bytes() == b"old"
    assert names(tmp_path) == ["result.bin"]


def test_the_native_writers_words_for_a_full_disk_are_understood(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"bytes .* are free"), atomic_path(tmp_path / "a"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(ValueError, match="of its own"), atomic_path(tmp_path / "a"):
        raise ValueError("of its own")
    assert names(tmp_path) == []


def test_an_error_about_another_file_is_not_taken_for_a_refusal_to_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a") as temporary:
        temporary.write_bytes((tmp_path / "source").read_bytes())


def test_places_where_no_file_can_stand(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for dest, words in (
        (tmp_path / "missing" / "a", "no such file or directory"),
        (tmp_path / "file" / "a", "not a directory"),
        (tmp_path / "folder", "it is a folder"),
        (fifo, "not an ordinary file"),
        (Path("/dev/null"), "not an ordinary file"),
        (tmp_path / ("n" * 250), "name too long"),
    ):
        with pytest.raises(WriteError, match=words) as caught:
            write_bytes(dest, b"1")
        assert caught.value.fix
    assert fifo.is_fifo()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(WriteError, match="permission denied"):
            write_bytes(tmp_path / "a", b"1")
    finally:
        tmp_path.chmod(0o755)
