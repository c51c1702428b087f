"""Whole modules in the files of torch before 1.6, which keep the source of each class beside it.

There a module's class is a reference, ('module', class, source file, source), that torch's safe reader does not know.
It is written anew as a call of :func:`class_of`, with which that reader gets the class alone; sources are never used.
"""

from __future__ import annotations

import io
import pickletools
from typing import Any

_NAME = "idsnn_cli.class_of"
_CALL = b"cidsnn_cli\nclass_of\n"
_REDUCE = b"R"
_MOST_PICKLES = 8  # magic number, version, system, content and the storages' keys are five


def class_of(*reference: Any) -> Any:
    """The class in such a reference. Raises ValueError where it is none."""
    if len(reference) != 4 or reference[0] != "module" or not isinstance(reference[1], type):
        raise ValueError("a reference that is neither a storage nor a class")
    return reference[1]


CLASS_OF: tuple[Any, str] = (class_of, _NAME)


def without_references(content: bytes) -> bytes:
    """``content``, the bytes of such a file, with each reference to a class written as a call."""
    stream = io.BytesIO(content)
    pieces: list[bytes] = []
    for _ in range(_MOST_PICKLES):
        start = stream.tell()
        try:
            edits = _edits(stream)
        except Exception:  # no pickle any more: the storages
            stream.seek(start)
            break
        at = start
        for begin, end, new in sorted(edits):
            pieces += [content[at:begin], new]
            at = end
        pieces.append(content[at : stream.tell()])
    pieces.append(content[stream.tell() :])
    return b"".join(pieces)


def _edits(stream: io.BytesIO) -> list[tuple[int, int, bytes]]:
    """(begin, end, new bytes) of what is to be changed in the pickle that begins here; the stream stands behind it."""
    edits: list[tuple[int, int, bytes]] = []
    marks: list[int] = []
    words: dict[int, str] = {}  # strings of the memo
    begins: dict[int, tuple[str, int]] = {}  # of each mark: the string that follows it at once
    closed: tuple[str, int] | None = None  # of the tuple that the last steps made
    before: tuple[str, Any] = ("", None)
    for opcode, argument, place in pickletools.genops(stream):
        name, at, index = opcode.name, place or 0, argument if isinstance(argument, int) else -1
        if before[0] == "MARK" and marks:
            word = argument if name == "BINUNICODE" else words.get(index, "") if "BINGET" in name else ""
            begins[marks[-1]] = (str(word), marks[-1])
        if name == "MARK":
            marks.append(at)
        elif name == "BINPERSID" and closed is not None and closed[0] == "module":
            edits += [(closed[1], closed[1], _CALL), (at, at + 1, _REDUCE)]
        elif name.endswith("BINPUT") and before[0] == "BINUNICODE":
            words[index] = str(before[1])
        if not name.endswith("BINPUT"):
            closed = None
        if name in ("TUPLE", "APPENDS", "SETITEMS", "LIST", "DICT") and marks:
            mark = marks.pop()
            closed = begins.get(mark) if name == "TUPLE" else None
        before = (name, argument)
    return edits
