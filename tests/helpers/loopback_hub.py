"""A hub of datasets and models on 127.0.0.1, with what huggingface_hub and datasets ask of the real one."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse


@dataclass
class Repository:
    commits: dict[str, dict[str, bytes]]  # by commit: the content of each file
    refs: dict[str, str]  # branches -> commits

    def commit(self, revision: str) -> str | None:
        found = self.refs.get(revision, revision)
        return found if found in self.commits else None


@dataclass
class Hub:
    repositories: Mapping[str, Repository]
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)  # each request: method and path


@contextmanager
def serve(repositories: Mapping[str, Repository]) -> Generator[Hub, None, None]:
    hub = Hub(repositories)

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _route(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.served.asked.append(f"{self.command} {self.path}")
        parts = [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]
        api = parts[0] == "api"
        start = api + (parts[api] in ("datasets", "models"))
        name, *rest = "/".join(parts[start : start + 2]), *parts[start + 2 :]
        repository = self.served.repositories.get(name)
        if repository is None:
            self._error(404, "RepoNotFound")
        elif api and rest[:1] == ["refs"]:
            branches = [
                {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": at} for ref, at in repository.refs.items()
            ]
            self._json({"branches": branches, "tags": [], "converts": []})
        else:
            what, revision, *path = rest or ("revision", "main")
            commit = repository.commit(revision)
            if commit is None:
                self._error(404, "RevisionNotFound")
            else:
                self._at(name, repository.commits[commit], commit, what, "/".join(path), body)

    def _at(self, name: str, files: dict[str, bytes], commit: str, what: str, path: str, body: bytes) -> None:
        """What is asked of one commit."""
        if what == "revision":
            siblings = [{"rfilename": file} for file in files]
            self._json({"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0})
        elif what == "tree":
            recursive = parse_qs(urlparse(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            self._json([one for one in _entries(files) if _is_in(one["path"], path, recursive)])
        elif what == "paths-info":
            asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
            self._json([one for one in _entries(files) if one["path"] in asked])
        elif path in files:
            headers = {"ETag": f'"{_hash(files[path])}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            self._answer(200, files[path], headers)
        else:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": commit})

    def _json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"."}
    made: list[dict[str, Any]] = [{"type": "directory", "path": one, "oid": _hash(one.encode())} for one in folders]
    return made + [{"type": "file", "path": p, "oid": _hash(c), "size": len(c)} for p, c in files.items()]


def _is_in(path: str, folder: str, recursive: bool) -> bool:
    above = path.rpartition("/")[0]
    return above == folder or (recursive and (not folder or above.startswith(f"{folder}/")))


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
