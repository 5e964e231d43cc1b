# SPDX-License-Identifier: Apache-2.0
"""A real squid on a lab host: started, stopped, killed, made slow, and asked what it was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.lab.daemon import Daemon
from tests.lab.lab import Lab
from tests.lab.priority import put_first
from tests.lab.process import wait_for
from tests.lab.settings import CHECKOUT_IN_HOST

USER = "proxy"
"""Debian's account of squid."""
PORT = 3128
READY_DEADLINE_S = 20.0
# A Frontier squid keeps objects in memory first. No request is remembered as allowed: each waits for the helper.
_CONFIG = """\
http_port {port}
visible_hostname {name}
pid_filename {folder}/squid.pid
cache_log {folder}/cache.log
logformat lab %tS %tr %Ss %>Hs %rm %ru
access_log stdio:{folder}/access.log logformat=lab
buffered_logs off
cache_mem 32 MB
shutdown_lifetime 0 seconds
forwarded_for off
external_acl_type delay ttl=0 negative_ttl=0 cache=0 children-startup=1 children-max=1 concurrency=4000 %>p \
 /usr/bin/env PYTHONPATH={checkout} /usr/bin/python3 -B -m tests.lab.squid_delay {folder}/delay
acl delayed external delay
acl lab src 10.77.0.0/16
http_access deny !lab
http_access allow delayed
http_access deny all
"""


@dataclass(frozen=True)
class Request:
    """One line of an access log.

    Attributes:
        at_s: when it came, seconds since the epoch.
        took_ms: until the last byte of the answer.
        result: squid's word, such as TCP_MEM_HIT.
        status: of the answer.
    """

    at_s: float
    took_ms: int
    result: str
    status: int
    method: str
    url: str


@dataclass(frozen=True)
class Squid:
    """One squid.

    Attributes:
        name: what it calls itself in Via, and its folder's name: one for each squid of a host.
        address: the host's, as clients see it.
    """

    lab: Lab
    host: str
    name: str
    address: str
    port: int = PORT

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def folder(self) -> str:
        return f"/var/tmp/{self.name}"

    @property
    def daemon(self) -> Daemon:
        return Daemon(self.lab, self.host, USER, self.name, ["squid", "-N", "-f", f"{self.folder}/squid.conf"])

    def start(self) -> None:
        """Start it, as fast as it can be, and wait until it takes requests."""
        host = self.lab.host(self.host)
        host.make_dirs(self.folder, owner=USER)
        text = _CONFIG.format(port=self.port, name=self.name, folder=self.folder, checkout=CHECKOUT_IN_HOST)
        host.write_file(f"{self.folder}/squid.conf", text)
        self.slow(0)
        self.daemon.start()
        wait_for(f"squid {self.name}", self._listens, READY_DEADLINE_S, self._log)
        put_first(self.lab, self.host, self.daemon.pid())

    def _listens(self) -> bool:
        return bool(self.lab.run(self.host, ["ss", "-Hltn", f"sport = :{self.port}"]).stdout)

    def _log(self) -> str:
        return self.daemon.log() + self.lab.read_file(self.host, f"{self.folder}/cache.log")

    def kill(self) -> None:
        """End it as a crash does."""
        self.daemon.stop("KILL")

    def slow(self, seconds: float) -> None:
        """Have it think for so long about every request that begins from now on."""
        self.lab.write_file(self.host, f"{self.folder}/delay", f"{seconds}\n")

    def requests(self, since_s: float = 0.0) -> list[Request]:
        """What it was asked for since then (seconds since the epoch), in the order of the answers."""
        text = self.lab.run(self.host, ["cat", f"{self.folder}/access.log"], check=False).stdout
        found = [request_of(line) for line in text.splitlines()]
        return [request for request in found if request.at_s >= since_s]


def request_of(line: str) -> Request:
    """Read one line of an access log."""
    at, took, result, status, method, url = line.split(" ", 5)
    return Request(float(at), int(took), result, int(status), method, url)


def peak_rate(requests: Iterable[Request], window_s: float = 1.0) -> float:
    """The most requests per second that came in any window of that length."""
    times = sorted(request.at_s for request in requests)
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] > window_s:
            first += 1
        most = max(most, last - first + 1)
    return most / window_s
