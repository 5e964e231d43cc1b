# SPDX-License-Identifier: Apache-2.0
"""What ssh(1) writes on standard error, as an error class and one sentence for the operator. Pure.

The texts are those of OpenSSH with LC_ALL=C; the first row that matches wins. What tests provoke on real servers was
printed by 9.2, and in the lab by 10.0; the other texts are from the source file named above their row. What no row
knows is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import (
    AuthenticationError,
    ConnectionLostError,
    HostKeyError,
    RemoteError,
    ThrottledError,
    UnreachableError,
)
from glideinwms_bosco.remote.connection import Endpoint, host_keys_command
from glideinwms_bosco.remote.messages import one_line

MAX_DETAIL_CHARS = 2000
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
CLOSED_DURING_LOGIN = "closed the connection during login"
THROTTLED_HINT = (
    "if it answered before, it may be throttling this host after too many connections (PerSourcePenalties, "
    "MaxStartups, fail2ban): wait some minutes, then try again"
)
LOST_HINT = "try again; what was installed before is untouched"
_KEY_HINT = "is the public key in ~/.ssh/authorized_keys of that account, and does the account exist?"


@dataclass(frozen=True)
class _Row:
    pattern: re.Pattern[str]
    error: type[RemoteError]
    what: str
    hint: str


def _row(pattern: str, error: type[RemoteError], what: str, hint: str) -> _Row:
    return _Row(re.compile(pattern, re.IGNORECASE), error, what, hint)


_TABLE = (
    # sshconnect.c: warn_changed_key, check_host_key
    _row(r"REMOTE HOST IDENTIFICATION HAS CHANGED", HostKeyError, "shows a host key that is not the pinned one", ""),
    _row(r"No \S+ host key is known for", HostKeyError, "shows a host key of a type that is not pinned", ""),
    _row(r"no matching host key type found", HostKeyError, "offers no host key type that this ssh accepts", ""),
    _row(r"Host key verification failed", HostKeyError, "shows a host key that is not pinned", ""),
    # sshconnect2.c, authfile.c; the file rows come first: ssh prints them before 'Permission denied'
    _row(r"UNPROTECTED PRIVATE KEY FILE", AuthenticationError, "was not tried with the key: others may read the file",
         "chmod 600 the private key file"),
    _row(r"no such identity: .*: (No such file|Permission denied)|Load key \".*\":", AuthenticationError,
         "cannot be reached with this key: the key file cannot be read", "check path, owner and mode of the key file"),
    _row(r"Too many authentication failures", AuthenticationError, "gave up after too many keys",
         "the agent holds many keys: name one with --key FILE"),
    _row(r"Permission denied \(|No supported authentication methods", AuthenticationError, "does not accept the key",
         _KEY_HINT),
    _row(r"no matching (key exchange method|cipher|MAC)", UnreachableError,
         "and this ssh have no encryption algorithm in common", "the server's OpenSSH is too old or too new"),
    # misc.c, sshconnect.c: ssh_connect_direct, kex_exchange_identification
    _row(r"Could not resolve hostname|Name or service not known", UnreachableError, "is not known to the name service",
         "check the host name in the site file"),
    _row(r"Connection refused", UnreachableError, "refuses the connection",
         "is the port right, and does sshd run there?"),
    _row(r"No route to host|Network is unreachable", UnreachableError, "cannot be reached from here: no route",
         "check network and firewall"),
    # clientloop.c, channels.c; before kex_exchange_identification, as the ssh behind it then finds no server
    _row(r"stdio forwarding failed|open failed: administratively prohibited", UnreachableError,
         "cannot be reached through the jump host", "may the jump host connect to it (AllowTcpForwarding, firewall)?"),
    # sshd closes so what MaxStartups, PerSourceMaxStartups and PerSourcePenalties do not let in (sshd.c)
    _row(r"kex_exchange_identification", ThrottledError, "closed the connection before the ssh handshake",
         THROTTLED_HINT),
    _row(r"banner exchange", UnreachableError, "did not begin the ssh handshake in time", THROTTLED_HINT),
    _row(r"(Connection|Operation) timed out", UnreachableError, "does not answer",
         "check network and firewall"),
    # mux.c
    _row(r"Session open refused by peer", RemoteError, "refuses another session on the connection",
         "ask the site for MaxSessions of at least 1 in sshd_config"),
    # packet.c: sshpkt_vfatal, which names address and port; the client loop, after the login, words it differently
    _row(r"Connection (closed|reset) by \S+ port \d", UnreachableError, CLOSED_DURING_LOGIN, THROTTLED_HINT),
    # clientloop.c, packet.c, and mux.c when the master has gone
    _row(r"Timeout, server .* not responding|Broken pipe|Connection (reset|closed)|read from master failed|"
         r"closed by remote host|client_loop: send disconnect|Control socket connect", ConnectionLostError,
         "lost the connection", LOST_HINT),
)  # fmt: skip


def find_pattern(stderr: str) -> Optional[tuple[str, type[RemoteError], str, str]]:
    """Return (the line that says it, error class, predicate, hint) for the first row that matches, or None."""
    for row in _TABLE:
        for line in stderr.splitlines():
            if row.pattern.search(line):
                return line, row.error, row.what, row.hint
    return None


def classify_ssh_failure(stderr: str, *, where: str, host: str, port: int, site: str = "") -> RemoteError:
    """Return (not raise) the error for what ssh has printed.

    Args:
        stderr: standard error of ssh; may hold login-shell noise.
        where: `user@host:port` as the message shall name it.
        host, port: the server, for the next step in the hint.
        site: name of the site description, put in front of the message when not empty.
    """
    prefix = f"site {site}: " if site else ""
    detail = stderr.strip()[-MAX_DETAIL_CHARS:] or None
    found = find_pattern(stderr)
    if found is None:
        last = one_line(stderr.strip().splitlines()[-1]) if stderr.strip() else "ssh gave no reason"
        return UnreachableError(f"{prefix}{where}: no connection: {last}", "try the same with ssh -v by hand", detail)
    _, error, what, hint = found
    if error is HostKeyError:
        shown = _FINGERPRINT.search(stderr)
        if shown:
            what += f" (it showed {shown.group(0)})"
        hint = f"compare with what the site publishes: {host_keys_command(host, port)}"
    return error(f"{prefix}{where} {what}", hint, detail)


def names_server(text: str, hop: Endpoint, others: Sequence[Endpoint]) -> bool:
    """Tell whether ssh's text is about this server; on a host with several of them the port decides."""
    if not re.search(rf"(^|[\s@\[]){re.escape(hop.host)}([\s:\],]|\.?$)", text, re.IGNORECASE | re.MULTILINE):
        return False
    shared = any(other.host.lower() == hop.host.lower() and other.port != hop.port for other in others)
    return not shared or re.search(rf"\b{hop.port}\b", text) is not None
