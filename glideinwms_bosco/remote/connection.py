# SPDX-License-Identifier: Apache-2.0
"""Who is called over which hops with which pinned host keys, and the private ssh client configuration for it.

Everything here is pure. The rendered configuration replaces the user's and the system's (`ssh -F`), so that nothing an
operator keeps in ~/.ssh can redirect a connection, relax host key checking or open a forwarding.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import RemoteError

SSH_PORT = 22
LOGIN_ALIAS = "gwms-bosco-login"
CONNECT_TIMEOUT_S = 20
# 3 unanswered probes of 15 s: a dead network is noticed after 45 s and never mistaken for a slow remote program.
ALIVE_INTERVAL_S = 15
ALIVE_COUNT_MAX = 3

MAX_HOST_NAME_CHARS = 253  # RFC 1035 section 2.3.4, without the final dot
MAX_PATH_CHARS = 1024
MAX_HOST_KEY_CHARS = 8192
MAX_JUMPS = 4

_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*")
# A leading '-' would be an option of ssh; '@', '%', blanks and quotes have a meaning in ssh_config.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_KEY_TYPE = re.compile(r"[a-z0-9][a-z0-9@.-]{2,63}")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]+")
# '"' and '\' end or escape a quoted ssh_config word, '${' is expanded in IdentityFile and cannot be escaped.
_UNQUOTABLE = re.compile(r'[\x00-\x1f\x7f"\\]|\$\{')


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _check_host_key(host: str, line: str) -> None:
    words = line.split(" ")
    if len(line) > MAX_HOST_KEY_CHARS or len(words) != 2 or not _KEY_TYPE.fullmatch(words[0]):
        raise RemoteError(f"host key of {host} is not of the form 'TYPE BASE64': {line[:60]!r}")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        raise RemoteError(f"host key of {host} is not valid base64: {line[:60]!r}") from None
    # RFC 4253 section 6.6: the blob repeats the key type as its first string.
    name = words[0].encode("ascii")
    if not blob.startswith(len(name).to_bytes(4, "big") + name):
        raise RemoteError(f"host key of {host}: the key is not of the type {words[0]} that stands before it")


@dataclass(frozen=True)
class Endpoint:
    """One ssh server, the account used there and the host keys it may show.

    Attributes:
        host: host name, IPv4 or IPv6 address (without brackets).
        port: TCP port, 1..65535.
        user: account on that host.
        host_keys: "TYPE BASE64" strings, at least one.

    Raises:
        RemoteError: when a value has another form (nothing that needs quoting in ssh_config is accepted).
    """

    host: str
    port: int
    user: str
    host_keys: tuple[str, ...]

    def __post_init__(self) -> None:
        named = len(self.host) <= MAX_HOST_NAME_CHARS and _HOST_NAME.fullmatch(self.host)
        if not named and not _is_address(self.host):
            raise RemoteError(f"not a host name or address: {self.host[:80]!r}")
        if not 1 <= self.port <= 65535:
            raise RemoteError(f"port of {self.host} is out of range 1..65535: {self.port}")
        if not _USER.fullmatch(self.user):
            raise RemoteError(f"user name on {self.host} has an unusable form: {self.user[:80]!r}")
        if not self.host_keys:
            raise RemoteError(
                f"no host key is pinned for {self.host}",
                f"look at them with: {host_keys_command(self.host, self.port)}",
            )
        for line in self.host_keys:
            _check_host_key(self.host, line)

    @property
    def label(self) -> str:
        """Return `user@host:port` for messages."""
        return f"{self.user}@{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True)
class AgentKey:
    """A key that never comes here: an agent's socket signs with it.

    Attributes:
        socket: of the agent.
        public_file: the public half, which says what to ask the agent for.
        certificate_file: a certificate for it, if the site wants one.
        tap: program that proves the destination for an ssh client older than session-bind (OpenSSH < 8.9), or None.

    Raises:
        RemoteError: when a path cannot be written into ssh_config.
    """

    socket: Path
    public_file: Path
    certificate_file: Optional[Path] = None
    tap: Optional[Path] = None

    def __post_init__(self) -> None:
        for path in (self.socket, self.public_file, self.certificate_file, self.tap):
            if path is not None:
                _check_path(path)
        # A shell starts a ProxyCommand.
        if self.tap is not None and not all(_PLAIN_PATH.fullmatch(str(path)) for path in (self.tap, self.socket)):
            raise RemoteError(f"path of the tap or its socket cannot be used: {self.tap} {self.socket}")


@dataclass(frozen=True)
class Connection:
    """The way to one login node.

    Attributes:
        login: the login node.
        jumps: hosts to go through, the first is reached directly.
        key_file: private key, or public key whose private half is in the agent (absolute path);
            None takes whatever the caller's agent (SSH_AUTH_SOCK) offers.
        agent_keys: in place of `key_file`, a key for the login node and for each jump host that has one of its own;
            nothing else is offered to any hop.

    Raises:
        RemoteError: when the key file's path cannot be written into ssh_config, or there are too many jumps.
    """

    login: Endpoint
    jumps: tuple[Endpoint, ...] = ()
    key_file: Optional[Path] = None
    agent_keys: Mapping[Endpoint, AgentKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.jumps) > MAX_JUMPS:
            raise RemoteError(f"{len(self.jumps)} jump hosts before {self.login.host}: more than {MAX_JUMPS}")
        if self.key_file is not None:
            _check_path(self.key_file)


def _check_path(path: Path) -> None:
    if not path.is_absolute() or len(str(path)) > MAX_PATH_CHARS or _UNQUOTABLE.search(str(path)):
        raise RemoteError(
            f"key file path cannot be used: {str(path)[:120]!r}",
            "give an absolute path without control characters, quotes, backslashes and '${'",
        )


def bracketed(host: str) -> str:
    """Return an IPv6 address in brackets, any other host unchanged."""
    return f"[{host}]" if ":" in host else host


def host_keys_command(host: str, port: int) -> str:
    """Return the command an operator runs to see the host keys of a server."""
    return f"gwms-bosco site hostkeys {host}" + (f" --port {port}" if port != SSH_PORT else "")


def known_hosts_name(host: str, port: int) -> str:
    """Return the name under which ssh looks a server up in known_hosts.

    Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT: a port other than 22 is written `[host]:port`. ssh looks names up in
    lower case (`get_hostfile_hostname_ipaddr` in sshconnect.c).
    """
    name = host.lower()
    return name if port == SSH_PORT else f"[{name}]:{port}"


def render_known_hosts(endpoints: Iterable[Endpoint]) -> str:
    """Render known_hosts lines for all endpoints, each line once, in the order given."""
    lines = [f"{known_hosts_name(e.host, e.port)} {key}" for e in endpoints for key in e.host_keys]
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def quote_path(path: Path) -> str:
    """Quote a path for a file name option of ssh_config; `%` is doubled, as ssh expands %-tokens in it."""
    return '"' + str(path).replace("%", "%%") + '"'


def _agent_identity(hop: Endpoint, key: Optional[AgentKey]) -> list[str]:
    if key is None:
        return []
    lines = [f"IdentityAgent {quote_path(key.socket)}", "IdentitiesOnly yes"]
    lines.append(f"IdentityFile {quote_path(key.public_file)}")
    if key.certificate_file is not None:
        lines.append(f"CertificateFile {quote_path(key.certificate_file)}")
    if key.tap is not None:
        # The tap finds the jump host in the factory's own configuration: ProxyCommand and ProxyJump exclude each other.
        lines.append(f"ProxyCommand {key.tap} %h %p {key.socket} {hop.user}@{hop.host}")
    return lines


def _identity(connection: Connection) -> Sequence[str]:
    if connection.agent_keys:
        return ()
    if connection.key_file is None:
        # 'none' keeps ssh from trying ~/.ssh/id_* beside the agent.
        return ("IdentityFile none",)
    return (f"IdentityFile {quote_path(connection.key_file)}", "IdentitiesOnly yes")


# UserKnownHostsFile and identity are added per connection.
_COMMON = (
    "GlobalKnownHostsFile /dev/null",
    "StrictHostKeyChecking yes",
    "CheckHostIP no",
    "UpdateHostKeys no",
    "VerifyHostKeyDNS no",
    "BatchMode yes",
    # Only public keys: leaves out GSSAPI and host-based too, and works with an ssh built without GSSAPI.
    "PreferredAuthentications publickey",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "ForwardAgent no",
    "ForwardX11 no",
    "ClearAllForwardings yes",
    "PermitLocalCommand no",
    "RequestTTY no",
    "EscapeChar none",
    "Tunnel no",
    # INFO is the least that prints the fingerprint of an unexpected host key; VERBOSE (seen with 10.0) also tells a
    # server that does not let this host in at all from one that ends the login.
    "LogLevel VERBOSE",
    "ConnectionAttempts 1",
    f"ConnectTimeout {CONNECT_TIMEOUT_S}",
    f"ServerAliveInterval {ALIVE_INTERVAL_S}",
    f"ServerAliveCountMax {ALIVE_COUNT_MAX}",
)


def render_ssh_config(connection: Connection, known_hosts: Path) -> str:
    """Render a complete ssh client configuration; the login node's alias is LOGIN_ALIAS.

    Each hop names the one before it as its ProxyJump, so ssh starts itself once per hop with this same file.

    Args:
        connection: the way to the login node.
        known_hosts: where the caller writes `render_known_hosts`; ssh reads no other host keys.
    """
    hops = (*connection.jumps, connection.login)
    lines: list[str] = []
    previous = ""
    for number, hop in enumerate(hops, start=1):
        alias = LOGIN_ALIAS if number == len(hops) else f"gwms-bosco-jump{number}"
        lines += [f"Host {alias}", f"  HostName {hop.host}", f"  Port {hop.port}", f"  User {hop.user}"]
        key = connection.agent_keys.get(hop)
        lines += [f"  {line}" for line in _agent_identity(hop, key)]
        if key is None or key.tap is None:
            lines.append(f"  ProxyJump {previous or 'none'}")
        if connection.agent_keys and key is None:
            lines += ["  IdentityAgent none", "  IdentityFile none"]
        lines.append("")
        previous = alias
    lines += ["Host *", f"  UserKnownHostsFile {quote_path(known_hosts)}"]
    lines += [f"  {line}" for line in (*_identity(connection), *_COMMON)]
    return "\n".join(lines) + "\n"
