"""An object store on this machine for tests: enough of S3 for what is asked of one, and faults on order.

Keys are taken as they are, whatever they hold. `faults` are asked for each request in turn; the first that is not None
is what becomes of it: a status (503 says SlowDown), or one of `reset`, `short`, `wrong` and `stall`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import socket
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape, unescape

import pytest
import rig

from batchsr.remote import fetch, publish, stores

Fault = Callable[[str, str], int | str | None]
"""Asked with method and key."""


class Store:
    """Objects by bucket and key, with the e-tags of S3, and what was asked for."""

    def __init__(self, *, conditional: bool = True) -> None:
        self.objects: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.buckets = {"tapes"}
        self.asked: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.conditional = conditional
        """Whether it obeys If-None-Match and If-Match of writes."""
        self.ranges = True
        self.conditional_reads = True
        """Whether it gives parts of objects."""
        self.page = 1000
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()
        self.patience = threading.Event()
        """Set at the end, so that a stalled answer ends too."""

    def put(self, key: str, data: bytes, *, bucket: str = "tapes", tag: str | None = None) -> None:
        self.objects[bucket, key] = (data, tag or hashlib.md5(data).hexdigest())

    def names(self, bucket: str = "tapes") -> list[str]:
        return sorted((key for at, key in self.objects if at == bucket), key=str.encode)

    def data(self, key: str) -> bytes:
        return self.objects["tapes", key][0]

    def once(self, what: int | str, method: str = "GET", part: str = "", *, times: int = 1, after: int = 0) -> None:
        """Let requests like this fail, so many times, behind so many that do not."""
        count = itertools.count()

        def fault(asked: str, key: str) -> int | str | None:
            if asked != method or part not in key:
                return None
            return what if after <= next(count) < after + times else None

        self.faults.append(fault)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def _do(self) -> None:
        path, _, query = self.path.partition("?")
        bucket, _, key = urllib.parse.unquote(path[1:]).partition("/")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.store.asked.append((self.command, key or f"?{asked.get('prefix', '')}"))
        fault = next((found for one in self.store.faults if (found := one(self.command, key)) is not None), None)
        if isinstance(fault, int):
            self._error(fault, {503: "SlowDown", 403: "AccessDenied"}.get(fault, "InternalError"))
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault == "stall":
            self.store.patience.wait(60)
            self.close_connection = True
        elif bucket not in self.store.buckets:
            self._error(404, "NoSuchBucket")
        elif not key and "delete" in asked:
            keys = re.findall("<Key>(.*?)</Key>", body.decode(), re.DOTALL)
            for found in keys:
                self.store.asked.append(("DELETE", unescape(found)))
                if any(one("DELETE", unescape(found)) for one in self.store.faults):
                    self.close_connection = True
                    return
                self.store.objects.pop((bucket, unescape(found)), None)
            self._answer(200, _xml("DeleteResult", "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)))
        elif not key:
            self._list(bucket, asked)
        elif self.command in ("GET", "HEAD"):
            self._give(bucket, key, str(fault))
        else:
            with self.store.lock:
                self._change(bucket, key, asked, body)

    do_GET = do_HEAD = do_PUT = do_POST = _do  # noqa: N815

    def _give(self, bucket: str, key: str, fault: str) -> None:
        if (bucket, key) not in self.store.objects:
            self._error(404, "NoSuchKey")
            return
        whole, tag = self.store.objects[bucket, key]
        if self.store.conditional_reads and self.headers.get("If-Match", f'"{tag}"') != f'"{tag}"':
            self._error(412, "PreconditionFailed")
            return
        data, headers = whole, {"ETag": f'"{tag}"', "Last-Modified": "Sat, 01 Mar 2025 10:00:00 GMT"}
        status = 200
        asked = self.headers.get("Range", "") if self.store.ranges else ""
        if match := re.fullmatch(r"bytes=(\d+)-(\d+)", asked):
            start, end = int(match[1]), min(int(match[2]) + 1, len(whole))
            data, status = whole[start:end], 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(whole)}"
        if fault == "wrong":
            data = bytes([data[0] ^ 1]) + data[1:]
        self._answer(status, data, headers, cut=fault == "short")

    def _change(self, bucket: str, key: str, asked: dict[str, str], body: bytes) -> None:
        store, at = self.store, (bucket, key)
        if "uploads" in asked:
            name = f"upload-{len(store.uploads)}"
            store.uploads[name] = {}
            self._answer(200, _xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>"))
        elif "partNumber" in asked:
            source = self.headers.get("x-amz-copy-source")
            if source is not None:
                from_bucket, _, from_key = urllib.parse.unquote(source).lstrip("/").partition("/")
                body = store.objects[from_bucket, from_key][0]
            tag = hashlib.md5(body).hexdigest()
            store.uploads[asked["uploadId"]][int(asked["partNumber"])] = body
            kind = "CopyPartResult" if source is not None else "Part"
            self._answer(200, _xml(kind, f'<ETag>"{tag}"</ETag>') if source is not None else b"", {"ETag": f'"{tag}"'})
        elif self._is_refused(at):
            self._error(412, "PreconditionFailed")
        else:
            tag = None
            if "uploadId" in asked:
                parts = store.uploads.pop(asked["uploadId"])
                body = b"".join(parts[number] for number in sorted(parts))
                tag = f"{hashlib.md5(body).hexdigest()}-{len(parts)}"
            elif (source := self.headers.get("x-amz-copy-source")) is not None:
                from_bucket, _, from_key = urllib.parse.unquote(source).lstrip("/").partition("/")
                body = store.objects[from_bucket, from_key][0]
            store.put(key, body, bucket=bucket, tag=tag)
            tag = store.objects[at][1]
            inner = f'<ETag>"{tag}"</ETag>'
            kind = "CopyObjectResult" if self.command == "PUT" else "CompleteMultipartUploadResult"
            self._answer(200, _xml(kind, inner), {"ETag": f'"{tag}"'})

    def _is_refused(self, at: tuple[str, str]) -> bool:
        if not self.store.conditional:
            return False
        tag = self.store.objects[at][1] if at in self.store.objects else None
        wanted = self.headers.get("If-Match")
        return (self.headers.get("If-None-Match") == "*" and tag is not None) or wanted not in (None, f'"{tag}"')

    def _list(self, bucket: str, asked: dict[str, str]) -> None:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        keys = [key for key in self.store.names(bucket) if key.startswith(prefix)]
        folders: set[str] = set()
        if delimiter:
            folders = {prefix + key[len(prefix) :].split("/")[0] + "/" for key in keys if "/" in key[len(prefix) :]}
            keys = [key for key in keys if "/" not in key[len(prefix) :]]
        start = int(asked.get("continuation-token", "0"))
        page = keys[start : start + self.store.page]
        inner = "".join(
            f"<Contents><Key>{_said(key)}</Key><LastModified>2025-03-01T10:00:00.000Z</LastModified>"
            f'<ETag>"{tag}"</ETag><Size>{len(data)}</Size></Contents>'
            for key in page
            for data, tag in (self.store.objects[bucket, key],)
        )
        more = start + len(page) < len(keys)
        inner += f"<IsTruncated>{str(more).lower()}</IsTruncated><EncodingType>url</EncodingType>"
        inner += f"<NextContinuationToken>{start + len(page)}</NextContinuationToken>" if more else ""
        inner += "".join(f"<CommonPrefixes><Prefix>{_said(one)}</Prefix></CommonPrefixes>" for one in sorted(folders))
        self._answer(200, _xml("ListBucketResult", inner))

    def _error(self, status: int, code: str) -> None:
        self._answer(status, _xml("Error", f"<Code>{code}</Code><Message>as ordered</Message>"))

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True


def _said(key: str) -> str:
    return escape(urllib.parse.quote(key))


def _xml(kind: str, inner: str) -> bytes:
    return f'<?xml version="1.0"?><{kind}>{inner}</{kind}>'.encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, address: Any) -> None:
        pass  # a client that went away


def served(store: Store) -> Iterator[str]:
    """Serve a store, and yield its endpoint."""
    handler = type("Handler", (_Handler,), {"store": store})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            store.patience.set()
            server.shutdown()
            thread.join()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Name a store to the program by the environment, and let its faults be met without long waits."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(stores, "_RETRIES", 0)
    monkeypatch.setattr(stores, "TIMEOUT_S", 5.0)
    monkeypatch.setattr(fetch, "PIECE_BYTES", 4096)
    monkeypatch.setattr(publish, "_tried", set())
    monkeypatch.setattr(rig, "OPTIONS", dataclasses.replace(rig.OPTIONS, wait_for_places_s=5))
    monkeypatch.setattr(rig.work, "__defaults__", (None, rig.OPTIONS))
    stores.forget()
