# SPDX-License-Identifier: Apache-2.0
"""Egress proxies as a site gets them, run by squid, Dante and sshd without rights on loopback, and what lies behind.

127.0.0.1 is the site and the home institute at once; 127.0.0.2 is somebody else's, 127.0.0.3 a host that is not listed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Optional

import pytest

from glideinwms_bosco.egress.places import Places
from glideinwms_bosco.egress.proxy_files import proxy_files
from glideinwms_bosco.egress.units import CONFS
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.network import HTTP_CONNECT, SOCKS5, SSH, Forward, Network
from tests.free_port import free_port
from tests.unit.network_text import EGRESS, SSH_EGRESS, closed_site
from tests.unit.sshd_fixture import make_key

SITE, STRANGER, UNLISTED = "127.0.0.1", "127.0.0.2", "127.0.0.3"
DEADLINE_S = 15.0
UNPRIVILEGED = "daemon"
_SITE_KEY = ("tunnel: {auth: hostbased}", "tunnel: {auth: site-key, accept_key_on_site: true}")
_SQUID = ("web_proxy: egress", "web_proxy: squid")
CHANGES: dict[str, Sequence[tuple[str, str]]] = {
    HTTP_CONNECT: (),
    SOCKS5: ((EGRESS, "egress: {kind: socks5, host: 192.0.2.1, port: 443}"), _SQUID),
    SSH: ((EGRESS, SSH_EGRESS), _SQUID, _SITE_KEY),
}


def site_of(kind: str, folder: Path) -> SiteDescription:
    """A site whose egress proxy is of that kind, as its file says."""
    return closed_site(folder, *CHANGES[kind])


def with_network(site: SiteDescription, **changes: Any) -> SiteDescription:
    """The site with these fields of its network block; nothing looks at them again."""
    assert site.network is not None
    return dataclasses.replace(site, network=dataclasses.replace(site.network, **changes))


def network_of(site: SiteDescription) -> Network:
    assert site.network is not None
    return site.network


@dataclass
class Server:
    """A server that answers web requests, echoes all else, and remembers what came.

    Attributes:
        saw: the first bytes of each connection.
    """

    address: str
    port: int
    saw: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.create_server((self.address, self.port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(DEADLINE_S)
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        data = connection.recv(4096)
        if not data:
            return
        self.saw.append(data)
        if data.split(b" ")[0] in (b"GET", b"HEAD", b"POST", b"PUT"):
            body = b"page"
            # Without a date squid takes what it gets for stale.
            lines = ("Cache-Control: max-age=600", "Connection: close", f"Date: {formatdate(usegmt=True)}", "", "")
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
            connection.sendall((head + "\r\n".join(lines)).encode() + body)
        else:
            connection.sendall(data)

    def close(self) -> None:
        # A closed socket does not wake up who waits in accept().
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(DEADLINE_S)


class NameServer:
    """A name server on an address of loopback, which knows IPv4 addresses of a few names."""

    ADDRESS = "127.0.0.77"

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((self.ADDRESS, 53))
        except PermissionError:
            self._socket.close()
            pytest.skip("port 53 is for root")
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                query, client = self._socket.recvfrom(512)
                self._socket.sendto(self._reply(query), client)

    def _reply(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        wants_ipv4 = query[end - 4 : end - 2] == b"\0\1"
        addresses = self._names.get(".".join(labels), ()) if wants_ipv4 else ()
        head = query[:2] + b"\x81\x80\0\1" + len(addresses).to_bytes(2, "big") + b"\0\0\0\0"
        answers = (b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4" + socket.inet_aton(address) for address in addresses)
        return head + query[12:end] + b"".join(answers)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(DEADLINE_S)
        self._socket.close()


@dataclass
class World:
    """An egress proxy and the servers around it.

    Attributes:
        folder: its files, belongs to the account that it runs as.
        pool, web: listed servers; the second also for fetching.
        hidden: a server on a host that is listed, on a port that is not.
        elsewhere: a server on a host that is not listed, on the pool's port.
    """

    kind: str
    site: SiteDescription
    folder: Path
    port: int
    pool: Server
    web: Server
    hidden: Server
    elsewhere: Server
    cache_mb: int = 0
    key: Optional[Path] = None
    process: Optional[subprocess.Popen[bytes]] = None

    @property
    def servers(self) -> tuple[Server, ...]:
        return self.pool, self.web, self.hidden, self.elsewhere

    @property
    def user(self) -> str:
        return UNPRIVILEGED if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    @property
    def _squid(self) -> tuple[str, ...]:
        """Its shared memory is named by the second word."""
        return ("-n", f"gwmsegress{self.port}", "-N")

    def places(self) -> Places:
        return Places(str(self.folder), str(self.folder), f"{self.folder}/cache")

    def start(self, extra: str = "") -> None:
        """Write its files and start it; `extra` stands before all else in its configuration."""
        key = None if self.key is None else " ".join(self.key.with_suffix(".pub").read_text().split()[:2])
        for path, content in proxy_files(self.site, SITE, key, self.cache_mb, self.places()).items():
            place = self.folder / path
            place.parent.mkdir(exist_ok=True)
            text = content.decode()
            if path == CONFS[self.kind]:
                text = extra + text
                self.conf = place
            place.write_text(text)
            place.chmod(0o644)
        self._give(self.folder)
        if self.kind == HTTP_CONNECT:
            made = subprocess.run(
                [*_program("squid"), *self._squid, "-z", "-f", str(self.conf)], check=False, **self._quietly()
            )
            assert made.returncode == 0, self.log()
        argv = {
            HTTP_CONNECT: ("squid", *self._squid, "-f"),
            SOCKS5: ("danted", "-p", str(self.folder / "pid"), "-f"),
            SSH: ("sshd", "-D", "-e", "-f"),
        }[self.kind]
        self.process = subprocess.Popen([*_program(argv[0]), *argv[1:], str(self.conf)], **self._quietly())
        ends_at = time.monotonic() + DEADLINE_S
        while time.monotonic() < ends_at and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((SITE, self.port), 1):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        pytest.fail(f"{self.kind} does not start: {self.log()}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def _quietly(self) -> dict[str, Any]:
        stream = (self.folder / "log").open("ab")
        rights: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam(UNPRIVILEGED)
            rights = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": stream, "cwd": "/", **rights}

    def _give(self, folder: Path) -> None:
        if os.geteuid() == 0:
            account = pwd.getpwnam(UNPRIVILEGED)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid)

    def ask(self, data: bytes, source: str = SITE, then: bytes = b"") -> bytes:
        """Send bytes to the proxy, `then` through what it opens; everything that comes back."""
        try:
            with socket.create_connection((SITE, self.port), DEADLINE_S, (source, 0)) as connection:
                connection.sendall(data)
                answer = connection.recv(65536)
                if then and b" 200 " in answer:
                    connection.sendall(then)  # the server closes after its echo
                elif then:
                    connection.shutdown(socket.SHUT_WR)
                while more := connection.recv(65536):
                    answer += more
                return answer
        except ConnectionError:
            return b""

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill() if self.kind == HTTP_CONNECT else self.process.terminate()
            self.process.wait()
        for path in Path("/dev/shm").glob(f"gwmsegress{self.port}-*"):
            path.unlink()
        for server in self.servers:
            server.close()


def _program(name: str) -> list[str]:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: squid, dante-server, openssh-server)")
    return [found]


@contextlib.contextmanager
def egress_world(
    kind: str, tmp_path: Path, extra: str = "", names: Sequence[Forward] = (), cache_mb: int = 0
) -> Iterator[World]:
    """Start an egress proxy of that kind; `names` are listed besides. A cache on disk (MB) is thousands of folders."""
    # Below pytest's own folder nobody else can enter.
    with tempfile.TemporaryDirectory(prefix="egress-") as name:
        folder = Path(name)
        pool, web, hidden = (Server(SITE, 0) for _ in range(3))
        elsewhere = Server(UNLISTED, pool.port)
        world = World(kind, site_of(kind, tmp_path), folder, free_port(), pool, web, hidden, elsewhere, cache_mb)
        egress = dataclasses.replace(
            network_of(world.site).egress, host=SITE, port=world.port, user=world.user if kind == SSH else None
        )
        forwards = (Forward("pool", SITE, pool.port), Forward("web", SITE, web.port), *names)
        world.site = with_network(world.site, egress=egress, forwards=forwards, exit_addresses=(f"{SITE}/32",))
        if kind == SSH:
            make_key(folder / "ssh_host_ed25519_key")
            world.key = tmp_path / "tunnel_key"
            make_key(world.key)
        try:
            world.start(extra)
            yield world
        finally:
            world.stop()
