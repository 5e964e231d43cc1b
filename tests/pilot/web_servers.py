# SPDX-License-Identifier: Apache-2.0
"""Servers on the loopback for tests of web proxies: a proxy that fails as it is told, PAC files, a real squid."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Callable, Optional
from urllib.parse import urlsplit

from tests.free_port import free_port

SQUID = shutil.which("squid", path="/usr/sbin:/sbin:/usr/bin")
START_S = 20.0
HUGE_BYTES = 4 << 20
PORTAL = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>Please log in.</body></html>\n"


class FaultyProxy(http.server.ThreadingHTTPServer):
    """A web proxy; `fault` says how it fails, and may be changed at any time.

    Empty: delivers; portal: 200 and a page; redirect: sends elsewhere; garbage: breaks each object; stale: delivers
    with an Age of ten days; uncached: delivers without a word of a cache; huge: an endless answer; slow: waits
    `delay_s` first; silent: never answers; drip: one byte now and then.
    """

    daemon_threads = True

    def __init__(self, fault: str = "", address: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.fault = fault
        self.delay_s = 0.0
        self.requests: list[str] = []
        self.closing = threading.Event()
        super().__init__((address, 0), _Proxy)

    @property
    def url(self) -> str:
        """As site files have it."""
        host = str(self.server_address[0])
        return f"http://[{host}]:{self.server_port}" if ":" in host else f"http://{host}:{self.server_port}"


class _Proxy(http.server.BaseHTTPRequestHandler):
    server: FaultyProxy

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        with contextlib.suppress(ConnectionError):
            getattr(self, f"_{self.server.fault or 'deliver'}")()

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _deliver(self, change: Callable[[bytes], bytes] = bytes, age_s: Optional[int] = 1) -> None:
        target = urlsplit(self.path)
        connection = http.client.HTTPConnection(str(target.hostname), target.port or 80, timeout=START_S)
        with contextlib.closing(connection):
            connection.request("GET", target.path)
            answer = connection.getresponse()
            kind = answer.headers.get_content_type()
            age = {} if age_s is None else {"Age": str(age_s)}
            self._answer(answer.status, change(answer.read()), {"Content-Type": kind, **age})

    def _stale(self) -> None:
        self._deliver(age_s=864000)

    def _uncached(self) -> None:
        self._deliver(age_s=None)

    def _garbage(self) -> None:
        self._deliver(lambda body: body.replace(b"\nS42\n", b"\nS41\n").replace(b'error="0"', b'error="4"'))

    def _portal(self) -> None:
        self._answer(200, PORTAL, {"Content-Type": "text/html"})

    def _redirect(self) -> None:
        self._answer(302, b"", {"Location": "http://login.example.org/?'\"<&$(id)"})

    def _huge(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(HUGE_BYTES >> 16):
            self.wfile.write(b"C" + b"0" * 65535)

    def _slow(self) -> None:
        self.server.closing.wait(self.server.delay_s)
        self._deliver()

    def _silent(self) -> None:
        self.server.closing.wait(START_S)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.closing.wait(0.2):
            self.wfile.write(b"C")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class PacServer(http.server.ThreadingHTTPServer):
    """Serves `files` (path -> content)."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        super().__init__(("127.0.0.1", 0), _Files)

    def at(self, path: str) -> str:
        """The URL of a file."""
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Files(http.server.BaseHTTPRequestHandler):
    server: PacServer

    def do_GET(self) -> None:
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "application/x-ns-proxy-autoconfig")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(server: http.server.ThreadingHTTPServer) -> Iterator[None]:
    """Serve in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        if isinstance(server, FaultyProxy):
            server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def squid(folder: Path) -> Iterator[str]:
    """Run a real squid with its files in `folder`; yields its URL.

    Raises:
        RuntimeError: it does not start.
    """
    if SQUID is None:
        raise RuntimeError("squid is not on this machine")
    port = free_port()
    folder.mkdir()
    user = pwd.getpwnam("proxy")
    os.chown(folder, user.pw_uid, user.pw_gid)
    (folder / "squid.conf").write_text(
        f"http_port 127.0.0.1:{port}\nhttp_access allow all\nvisible_hostname squid.test\ncache_mem 8 MB\n"
        f"cache_effective_user {user.pw_name}\ncache_log {folder}/cache.log\naccess_log stdio:{folder}/access.log\n"
        f"pid_filename none\ncoredump_dir {folder}\npinger_enable off\nnetdb_filename none\n"
    )
    command = [SQUID, "-N", "-f", str(folder / "squid.conf")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError("squid did not start")
