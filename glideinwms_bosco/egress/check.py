# SPDX-License-Identifier: Apache-2.0
"""What `egress check` asks an egress proxy, and what the answers mean. Pure: others carry the bytes.

Each question is one connection: bytes are sent, some bytes come back. An unlisted target is asked for too: what passes
everything would serve a site as well, and everybody with it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import EgressError
from glideinwms_bosco.site.network import HTTP_CONNECT, SOCKS5, SSH, WEB_PROXY_EGRESS, Forward, Network, is_numeric

MAX_ANSWER_BYTES = 1024
"""All of SOCKS, or status line and first headers."""
OK, WARNING, ERROR, UNREACHED = "ok", "warning", "error", "unreached"
_UNLISTED = ("192.0.2.1", "198.51.100.1", "203.0.113.1", "192.0.2.2")
"""Documentation addresses, which are nobody's. Source: RFC 5737."""
_UNLISTED_PORTS = (9, 13)
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r\n]")
_SQUID_REFUSES = re.compile(rb"^X-Squid-Error: ERR_ACCESS_DENIED", re.MULTILINE | re.IGNORECASE)
_BANNER = re.compile(rb"^SSH-(2\.0|1\.99)-[ -~]+", re.MULTILINE)
# Source: RFC 1928, sections 3 to 6.
_SOCKS_GREETING = b"\x05\x01\x00"
_SOCKS_NO_LOGIN = b"\x05\x00"
_SOCKS_WORDS = {
    0: "opened",
    1: "general failure",
    2: "not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
}
_SOCKS_REFUSED = 2
_ASKED_FROM = "is the address that it sees among network.exit_addresses, and is the configuration the latest "
_ASKED_FROM += "that `egress proxy` has made?"
_OPEN = "it opens what is not listed: install what `egress proxy` makes, and nothing before it"


@dataclass(frozen=True)
class Answer:
    """What a connection gave.

    Attributes:
        connected: the TCP connection was opened.
        data: what came back, at most MAX_ANSWER_BYTES.
        reason: why it was not opened, if that is known.
    """

    connected: bool
    data: bytes = b""
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """One line of the result. `severity`: ok, warning, error, or unreached (nothing can be said of the proxy)."""

    name: str
    severity: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self.name}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")

    def as_json(self) -> dict[str, str]:
        """The same for `--json`."""
        return {"name": self.name, "severity": self.severity, "text": self.text, "remedy": self.remedy}


@dataclass(frozen=True)
class Question:
    """One connection to the egress proxy.

    Attributes:
        name: of the line that it gives.
        kind: http-connect, socks5 or ssh.
        method: CONNECT or GET; GET only of http-connect.
        target: what it asks for; None: only whether the proxy is there and of this kind.
        allowed: whether that should pass.
    """

    name: str
    kind: str
    method: str = "CONNECT"
    target: Optional[Forward] = None
    allowed: bool = True

    @property
    def data(self) -> bytes:
        """What is sent; nothing for the banner of ssh."""
        if self.kind == SSH:
            return b""
        if self.target is None:
            return _SOCKS_GREETING if self.kind == SOCKS5 else b"OPTIONS * HTTP/1.0\r\n\r\n"
        place = self.target.target
        if self.kind == SOCKS5:
            return _SOCKS_GREETING + _socks_request(self.target)
        if self.method == "GET":
            return f"GET http://{place}/ HTTP/1.0\r\nHost: {place}\r\nCache-Control: no-cache\r\n\r\n".encode("ascii")
        return f"CONNECT {place} HTTP/1.0\r\nHost: {place}\r\n\r\n".encode("ascii")

    @property
    def enough_bytes(self) -> int:
        """So many bytes hold the whole answer; more need not be waited for."""
        if self.kind == SOCKS5:
            return len(_SOCKS_NO_LOGIN) + (0 if self.target is None else 2)
        return MAX_ANSWER_BYTES

    def judge(self, answer: Answer) -> Line:
        """What the answer means."""
        if not answer.connected:
            remedy = "is it running, and does the firewall of both sides let the site in?"
            return self._line(UNREACHED, f"no connection{': ' if answer.reason else ''}{answer.reason}", remedy)
        if self.kind == SSH:
            return self._banner(answer.data)
        return self._socks(answer.data) if self.kind == SOCKS5 else self._http(answer.data)

    def _line(self, severity: str, text: str, remedy: str = "") -> Line:
        return Line(self.name, severity, text, remedy)

    def _banner(self, data: bytes) -> Line:
        found = _BANNER.search(data)
        if found is None:
            return self._not_it(data)
        return self._line(OK, f"ssh answers ({found[0].decode('ascii')[:60]})")

    def _not_it(self, data: bytes) -> Line:
        if not data:
            return self._line(ERROR, "closed the connection or said nothing", _ASKED_FROM)
        shown = "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in data[:40])
        return self._line(
            ERROR, f"is no {self.kind} proxy: it says {shown!r}", "look at network.egress: host, port, kind"
        )

    def _socks(self, data: bytes) -> Line:
        if data[: len(_SOCKS_NO_LOGIN)] != _SOCKS_NO_LOGIN:
            return self._not_it(data)
        if self.target is None:
            return self._line(OK, "SOCKS 5 answers, and asks for no password")
        reply = data[len(_SOCKS_NO_LOGIN) :]
        if len(reply) < 2 or reply[0] != 5:
            # A proxy that drops what it does not allow.
            return self._passed(None, "no reply")
        code = reply[1]
        word = _SOCKS_WORDS.get(code, f"reply {code}")
        return self._passed(None if code == _SOCKS_REFUSED else code == 0, word)

    def _http(self, data: bytes) -> Line:
        found = _STATUS.match(data)
        if found is None:
            return self._not_it(data)
        status = int(found[1])
        if self.target is None:
            return self._line(OK, f"an HTTP proxy answers (status {status})")
        if status in (401, 403, 405, 407) and (self.method != "GET" or _SQUID_REFUSES.search(data)):
            return self._passed(None, f"status {status}")
        # What a web server says of its first page does not matter.
        fetched = self.method == "GET" and status not in (502, 503, 504)
        return self._passed(fetched or 200 <= status < 300, f"status {status}")

    def _passed(self, opened: Optional[bool], word: str) -> Line:
        """The line; `opened` None: refused, False: allowed, but the target does not answer."""
        if not self.allowed:
            if opened is None:
                return self._line(OK, f"refused, as it should be ({word})")
            return self._line(ERROR, f"not refused ({word})", _OPEN)
        if opened is None:
            return self._line(ERROR, f"refused ({word})", _ASKED_FROM)
        if not opened:
            return self._line(WARNING, f"allowed, but the egress proxy gets no connection ({word})", "is it up there?")
        return self._line(OK, f"passes ({word})")


def _socks_request(target: Forward) -> bytes:
    if is_numeric(target.host):
        address = b"\x01" + socket.inet_aton(target.host)
    else:
        name = target.host.encode("ascii")
        address = b"\x03" + bytes([len(name)]) + name
    return b"\x05\x01\x00" + address + target.port.to_bytes(2, "big")


def questions(network: Network) -> tuple[Question, ...]:
    """What to ask, in order; of kind ssh only the banner, since targets need a login (see `ssh_targets`)."""
    kind = network.egress.kind
    asked = [Question("egress proxy", kind)]
    if kind == SSH:
        return tuple(asked)
    asked += [Question(forward.name, kind, target=forward) for forward in network.forwards]
    asked += [Question(f"not {target.target}", kind, target=target, allowed=False) for target in unlisted(network)]
    if kind == HTTP_CONNECT and network.web_proxy == WEB_PROXY_EGRESS:
        asked += _web_questions(network)
    return tuple(asked)


def _web_questions(network: Network) -> Iterator[Question]:
    for forward in network.forwards:
        name = f"fetch from {forward.name}" if forward.is_web else f"no fetch from {forward.name}"
        yield Question(name, HTTP_CONNECT, "GET", forward, forward.is_web)


def unlisted(network: Network) -> tuple[Forward, ...]:
    """Targets that must be refused: nobody's address, and another port of a host that is listed.

    Raises:
        EgressError: every one of them is listed.
    """
    listed = {forward.target for forward in network.forwards}
    first = network.forwards[0]
    strangers = [Forward("unlisted", host, first.port) for host in _UNLISTED]
    others = [Forward("unlisted", first.host, port) for port in _UNLISTED_PORTS]
    found = [[place for place in places if place.target not in listed][:1] for places in (strangers, others)]
    if not all(found):
        raise EgressError("network.forwards lists addresses that are for documentation only", "remove them")
    return tuple(place for places in found for place in places)


# What ssh says of a channel with -W and LogLevel DEBUG2. Source: OpenSSH 8.4 to 10.0, clientloop.c and channels.c.
_SSH_OPEN = re.compile(r"channel \d+: open confirm")
_SSH_REFUSED = re.compile(r"open failed: administratively prohibited")
_SSH_DEAD = re.compile(r"open failed: connect failed")


def judge_ssh(target: Forward, allowed: bool, said: str) -> Line:
    """What ssh's own log of an attempt to open a target through the egress proxy means.

    Args:
        target: what was asked for.
        allowed: whether it should pass.
        said: the last lines of its log.
    """
    question = Question(target.name if allowed else f"not {target.target}", SSH, target=target, allowed=allowed)
    if _SSH_OPEN.search(said):
        return question._passed(True, "opened")
    if _SSH_REFUSED.search(said):
        return question._passed(None, "administratively prohibited")
    if _SSH_DEAD.search(said):
        return question._passed(False, "connect failed")
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("debug")]
    shown = lines[-1][:200] if lines else "ssh does not say why"
    return Line(question.name, ERROR, f"no login at the egress proxy: {shown}", "is the key in its authorized_keys?")
