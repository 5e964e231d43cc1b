# SPDX-License-Identifier: Apache-2.0
"""The files that let an unmodified ssh use a handle: configuration, public key, known_hosts.

ssh takes the first value it meets. So what protects the key stands first, for the offered hosts and user; the
factory's own configuration is included behind it and adds what only the site description knows: the jump hosts. ssh
starts itself for a jump with the same `-F`, so handles of the same broker for other accounts stand there too: the jump
host's own handle serves the jump.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.relay.offered import OfferedHandle

CONNECT_TIMEOUT_S = 20
# 3 unanswered probes of 15 s: a dead network is noticed after 45 s.
ALIVE_INTERVAL_S = 15
ALIVE_COUNT_MAX = 3
FIRST_WITH_SESSION_BIND = (8, 9)
SUFFIXES = (".sock", ".conf", ".pub", ".known_hosts", "-cert.pub")

_VERSION = re.compile(r"OpenSSH_(\d{1,3})\.(\d{1,3})")


@dataclass(frozen=True)
class ClientSettings:
    """What is the same for every handle.

    Attributes:
        socket_dir: folder of sockets and files.
        includes: ssh configuration files of the factory; a missing one is no error to ssh.
        tap_program: path of the tap, or None when ssh sends session-bind itself.
    """

    socket_dir: Path
    includes: tuple[Path, ...]
    tap_program: Optional[Path]


def sends_session_bind(ssh_version: str) -> bool:
    """Tell from the output of `ssh -V` whether the client tells its agent where it connects to."""
    found = _VERSION.match(ssh_version)
    return found is not None and (int(found[1]), int(found[2])) >= FIRST_WITH_SESSION_BIND


def factory_conf(settings: ClientSettings) -> bytes:
    """Render the file that leads to the factory's own ssh configuration."""
    return "".join(f"Include {path}\n" for path in settings.includes).encode()


def client_files(own: OfferedHandle, others: Iterable[OfferedHandle], settings: ClientSettings) -> dict[str, bytes]:
    """Render the files of one handle.

    Args:
        others: handles of the same broker and purpose, for jump hosts.

    Returns:
        dict file name -> content; the configuration last, so that it never names a file that is not there yet.
    """
    files = {
        f"{own.handle}.pub": f"{own.key.authorized} gwms-broker:{own.handle}\n",
        f"{own.handle}.known_hosts": "".join(line + "\n" for line in own.known_hosts),
    }
    if own.cert_blob:
        encoded = base64.b64encode(own.cert_blob).decode("ascii")
        files[f"{own.handle}-cert.pub"] = f"{own.key.algorithm}-cert-v01@openssh.com {encoded}\n"
    lines = ["# Written by gwms-ssh-relay; changes are overwritten.", ""]
    for offered in (own, *sorted(others, key=lambda other: other.handle)):
        for name in sorted({host.name for host in offered.hosts}):
            lines += _block(offered, name, settings)
    # Not by way of factory.conf: ssh wants included files, unlike that of -F, to be root's or its user's own.
    lines += ["Match all", *(f"  Include {path}" for path in settings.includes), ""]
    files[f"{own.handle}.conf"] = "\n".join(lines)
    return {name: content.encode() for name, content in files.items()}


def _block(offered: OfferedHandle, name: str, settings: ClientSettings) -> list[str]:
    base = f"{settings.socket_dir}/{offered.handle}"
    ports = [host.port for host in offered.hosts if host.name == name]
    return [
        f"Match originalhost {name} user {offered.user}",
        f"  HostName {name}",
        # With several, the caller says which (-p).
        *([f"  Port {ports[0]}"] if len(ports) == 1 else []),
        f"  IdentityAgent {base}.sock",
        "  IdentitiesOnly yes",
        f"  IdentityFile {base}.pub",
        *([f"  CertificateFile {base}-cert.pub"] if offered.cert_blob else []),
        f"  UserKnownHostsFile {base}.known_hosts",
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
        "  CheckHostIP no",
        "  VerifyHostKeyDNS no",
        "  BatchMode yes",
        "  PubkeyAuthentication yes",
        "  PreferredAuthentications publickey",
        # A key exchange by GSSAPI carries no host signature; ssh without the distributions' patch does not know it.
        "  IgnoreUnknown GSSAPIKeyExchange",
        "  GSSAPIKeyExchange no",
        "  ForwardAgent no",
        "  ForwardX11 no",
        "  PermitLocalCommand no",
        # remote_gahp asks for it only when `ssh -V` says OpenSSH_5..9; without it a refused -R holds the job.
        "  ExitOnForwardFailure yes",
        f"  ConnectTimeout {CONNECT_TIMEOUT_S}",
        f"  ServerAliveInterval {ALIVE_INTERVAL_S}",
        f"  ServerAliveCountMax {ALIVE_COUNT_MAX}",
        *_proxy(offered, name, settings),
        "",
    ]


def _proxy(offered: OfferedHandle, name: str, settings: ClientSettings) -> Sequence[str]:
    """A ProxyCommand ends the search for a ProxyJump, so the tap is told where to look for the jump host itself."""
    if settings.tap_program is None:
        return []
    # No "exec": ssh adds it, and the tap's parent has to be ssh.
    socket = f"{settings.socket_dir}/{offered.handle}.sock"
    return [f"  ProxyCommand {settings.tap_program} %h %p {socket} {offered.user}@{name}"]
