"""A stand-in of the hub on loopback: the part of its HTTP interface that its client calls to read and to publish.

It keeps repositories in memory, as commits of files. ``faults`` make it answer wrongly, and ``asked`` is what it was
asked, so that a test can tell what was fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_aTestToken"  # of the stand-in alone
LARGE = 1000  # bytes from which a file is LFS, as binary ones are on the hub


def commit_of(files: dict[str, bytes], number: int) -> str:
    """A name of 40 hexadecimal digits, of the content and the place in history."""
    digest = hashlib.sha1(str(number).encode())
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name])
    return digest.hexdigest()


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, files: dict[str, bytes], message: str = "") -> str:
        """A commit with these files beside those of the last; its name."""
        before = dict(self.commits[-1][1]) if self.commits else {}
        now = before | files
        self.commits.append((commit_of(now, len(self.commits)), now))
        self.messages.append(message)
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision in ("main", "HEAD"):
            return self.commits[-1]
        named = self.tags.get(revision, revision)
        return next((each for each in self.commits if each[0] == named), None)


@dataclass
class StandIn:
    """``faults`` leads from a part of a path to what is answered instead: a status, or ``truncated``, ``corrupt`` or
    ``no commit``."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: dict[str, int | str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    stored: dict[str, bytes] = field(default_factory=dict)
    lfs: bool = True

    def repository(self, name: str, files: dict[str, bytes] | None = None, **traits: Any) -> Repository:
        made = Repository(**traits)
        made.add(files if files is not None else {".gitattributes": b""})
        self.repositories[name] = made
        return made

    def paths(self, method: str) -> list[str]:
        return [path for each, path in self.asked if each == method]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, cut: int = 0) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            sent = body[: len(body) - cut]
            self.wfile.write(sent)
            self.hub.sent_bytes += len(sent)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def _json(self, content: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, words: str = "") -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": words or code})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _fault(self, path: str) -> int | str | None:
        return next((fault for part, fault in self.hub.faults.items() if part in path), None)

    def _go(self) -> None:
        hub, raw = self.hub, urlsplit(self.path).path
        path = unquote(raw)
        hub.asked.append((self.command, path))
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        hub.tokens.append(token)
        content = self._body()
        fault = self._fault(path)
        if isinstance(fault, int):
            self._refuse(fault, "", "as the test wants it")
            return
        parts = [unquote(part) for part in raw.strip("/").split("/")]
        if parts[0] == "api":
            self._api(parts[1:], content, token)
        elif parts[:1] == ["upload"] and self.command == "PUT":
            hub.stored[parts[1]] = content
            self._answer(200)
        elif path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(content))
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3:], token, fault)
        else:
            self._refuse(404, "", "no such page")

    do_GET = do_HEAD = do_POST = do_PUT = _go

    def _open(self, name: str, token: str) -> Repository | None:
        """The repository, if it is there and for this account; otherwise that is answered."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and token != TOKEN):
            self._refuse(401 if not token else 404, "RepoNotFound", "Repository not found")
            return None
        return found

    def _api(self, parts: list[str], content: bytes, token: str) -> None:
        if parts == ["validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts == ["repos", "create"]:
            self._create(json.loads(content), token)
        elif parts[0] == "models" and len(parts) >= 3:
            found = self._open("/".join(parts[1:3]), token)
            if found is not None:
                self._model("/".join(parts[1:3]), found, parts[3:], content, token)
        else:
            self._refuse(404, "", "no such page")

    def _create(self, wanted: dict[str, Any], token: str) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if token != TOKEN:
            self._refuse(401, "", "Invalid username or password.")
        elif name in self.hub.repositories:
            self._refuse(409, "", "You already created this model repo")
        else:
            self.hub.repository(name, private=wanted.get("visibility") == "private" or bool(wanted.get("private")))
            self._json({"url": f"{self.hub.address}/{name}", "name": name})

    def _model(self, name: str, found: Repository, rest: list[str], content: bytes, token: str) -> None:
        if not rest or rest[0] == "revision":
            at = found.at("/".join(rest[1:]) or "main")
            if at is None:
                self._refuse(404, "RevisionNotFound", "Invalid rev id")
            else:
                self._json(self._info(name, found, *at))
        elif token != TOKEN:
            self._refuse(403, "", "you may not write here")
        elif rest[0] == "preupload":
            modes = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if self.hub.lfs and each["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(found.files.get(each["path"]), self.hub.lfs and each["size"] >= LARGE),
                }
                for each in json.loads(content)["files"]
            ]
            self._json({"files": modes})
        elif rest[0] == "commit":
            self._commit(name, found, [json.loads(line) for line in content.splitlines()])
        else:
            self._refuse(404, "", "no such page")

    def _info(self, name: str, found: Repository, commit: str, files: dict[str, bytes]) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for path, content in files.items():
            each: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
            if len(content) >= LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                each["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 134}
            siblings.append(each)
        sha = None if self.hub.faults.get("info") == "no commit" else commit
        return {"id": name, "modelId": name, "sha": sha, "private": found.private, "siblings": siblings, "tags": []}

    def _commit(self, name: str, found: Repository, lines: list[dict[str, Any]]) -> None:
        head, *rest = lines
        if head["value"].get("parentCommit") not in (None, found.commits[-1][0]):
            self._refuse(412, "", "the branch has moved")
            return
        files = {}
        for each in rest:
            value = each["value"]
            if each["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.hub.stored[value["oid"]]
        commit = found.add(files, head["value"]["summary"])
        self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{commit}", "commitOid": commit})

    def _batch(self, wanted: dict[str, Any]) -> None:
        self._json(
            {
                "transfer": "basic",
                "objects": [
                    {**each, "actions": {"upload": {"href": f"{self.hub.address}/upload/{each['oid']}", "header": {}}}}
                    for each in wanted["objects"]
                ],
            }
        )

    def _resolve(self, name: str, rest: list[str], token: str, fault: int | str | None) -> None:
        found = self._open(name, token)
        if found is None:
            return
        at, path = found.at(rest[0]), "/".join(rest[1:])
        if at is None:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        if found.gated and token != TOKEN:
            self._refuse(403, "GatedRepo", "Access to it is restricted")
            return
        if path not in at[1]:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content = at[1][path]
        headers = {"X-Repo-Commit": at[0], "ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if fault == "no commit":
            del headers["X-Repo-Commit"]
        if fault == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        wanted = self.headers.get("range")
        if self.command == "HEAD":
            self._answer(200, content, headers)
        elif wanted is None:
            self._answer(200, content, headers, cut=len(content) // 2 if fault == "truncated" else 0)
        elif fault == "truncated":
            self.close_connection = True  # not one byte more
        else:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1 if last else len(content), len(content))
            part = content[int(first) : end]
            self._answer(206, part, headers | {"Content-Range": f"bytes {first}-{end - 1}/{len(content)}"})


def _oid(content: bytes | None, lfs: bool) -> str | None:
    """How the hub names a file that it has: the client leaves out what is there already."""
    if content is None:
        return None
    if lfs:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[StandIn]:
    """The stand-in, answering at its ``address``."""
    hub = StandIn()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def connected(cache: Path, patch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in, and the client in this process turned to it, with an empty cache in ``cache`` and no token."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    from idsnn_cli.hub import reading

    reading.forget()
    with serving() as hub:
        close_session()
        patch.setenv("NO_PROXY", "*")
        patch.delenv("HF_TOKEN", raising=False)
        for name, value in {
            "ENDPOINT": hub.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_TOKEN_PATH": str(cache / "token"),
            "HF_HUB_DISABLE_TELEMETRY": True,
        }.items():
            patch.setattr(constants, name, value)
        # Its waits between attempts are for networks.
        patch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        try:
            yield hub
        finally:
            close_session()
            reading.forget()
