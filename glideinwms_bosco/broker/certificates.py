# SPDX-License-Identifier: Apache-2.0
"""Short-lived user certificates: made with ssh-keygen by a CA key in an agent, and remembered byte for byte."""

from __future__ import annotations

import base64
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.broker.backends.agent_process import private_folder
from glideinwms_bosco.broker.backends.command import run_command
from glideinwms_bosco.errors import KeyBackendError, WireError
from glideinwms_bosco.sshwire.certificate import SSH_CERT_TYPE_USER, Certificate, parse_certificate
from glideinwms_bosco.sshwire.keys import PublicKey

DEADLINE_S = 10.0
BACKDATE_S = 60
"""Validity starts this much earlier: clocks of sites differ from ours."""
MAX_KEPT = 64
"""Certificates remembered for each handle; with the shortest life of 60 s that is an hour's worth at full use."""


@dataclass(frozen=True)
class CertificateTerms:
    """What a certificate allows; the policy says it, never the one who asks.

    Attributes:
        ttl_s: life in seconds.
        force_command: the only command; None: any.
        source_addresses: networks it may be used from; empty: any.
    """

    principals: tuple[str, ...]
    ttl_s: int
    force_command: Optional[str] = None
    source_addresses: tuple[str, ...] = ()


class SerialNumbers:
    """Numbers that grow, also over restarts and without a file: microseconds since 1970."""

    def __init__(self) -> None:
        self._last = 0

    def take(self) -> int:
        """A number that was not given out before."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last


class CertificateMaker:
    """Signs with one CA.

    Args:
        folder: private; each certificate is made in a folder of its own below it.
        agent_socket: the agent that holds the CA's private key.
        ca: the CA's public key.
    """

    def __init__(self, folder: Path, agent_socket: Path, ca: PublicKey, serials: SerialNumbers) -> None:
        self._folder = folder
        self._socket = agent_socket
        self._ca = ca
        self._serials = serials

    async def certify(self, key: PublicKey, terms: CertificateTerms, key_id: str) -> Certificate:
        """Make a user certificate.

        Args:
            key: the key to certify.
            key_id: stands in the site's sshd log beside the serial; printable, without secrets.

        Raises:
            KeyBackendError: the CA's agent does not sign, or what came is not what was asked for.
        """
        serial = self._serials.take()
        folder = Path(tempfile.mkdtemp(prefix="cert-", dir=private_folder(self._folder)))
        try:
            (folder / "ca.pub").write_text(f"{self._ca.authorized}\n", "ascii")
            (folder / "key.pub").write_text(f"{key.authorized}\n", "ascii")
            argv = _argv(terms, key_id, serial)
            environment = {"PATH": "/usr/bin:/bin", "SSH_AUTH_SOCK": str(self._socket)}
            finished = await run_command(argv, DEADLINE_S, environment=environment, folder=folder)
            if finished.status != 0:
                said = " ".join(finished.stderr.split())
                raise KeyBackendError(f"no certificate from the CA {self._ca.fingerprint}: {said}")
            certificate = _read(folder / "key-cert.pub")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        wanted = (key.blob, self._ca.blob, serial, key_id, terms.principals, SSH_CERT_TYPE_USER)
        got = certificate.key.blob, certificate.ca.blob, certificate.serial, certificate.key_id
        if (*got, certificate.principals, certificate.type) != wanted:
            raise KeyBackendError("ssh-keygen has made another certificate than was asked for")
        return certificate


def _argv(terms: CertificateTerms, key_id: str, serial: int) -> list[str]:
    # Everything that is not asked for is off. Ports: condor_ft-gahp needs ssh -R.
    options = ["clear", "permit-port-forwarding"]
    if terms.force_command is not None:
        options.append(f"force-command={terms.force_command}")
    if terms.source_addresses:
        options.append(f"source-address={','.join(terms.source_addresses)}")
    argv = ["ssh-keygen", "-q", "-U", "-s", "ca.pub", "-I", key_id, "-n", ",".join(terms.principals)]
    # Relative times: absolute ones are local time before OpenSSH 9.1.
    argv += ["-z", str(serial), "-V", f"-{BACKDATE_S}s:+{terms.ttl_s}s"]
    for option in options:
        argv += ["-O", option]
    return [*argv, "key.pub"]


def _read(file: Path) -> Certificate:
    try:
        return parse_certificate(base64.b64decode(file.read_text("ascii").split()[1], validate=True))
    except (OSError, ValueError, IndexError, WireError) as err:
        raise KeyBackendError(f"ssh-keygen's certificate cannot be read: {err}") from None


class IssuedCertificates:
    """Certificates that this broker has issued or was given, by handle, until they expire. Only they are signed for."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Certificate]] = {}

    def add(self, handle: str, certificate: Certificate, now: float) -> None:
        """Remember one; what has expired goes, and so does the oldest of too many."""
        kept = [old for old in self._kept.get(handle, ()) if now < old.valid_before and old.blob != certificate.blob]
        self._kept[handle] = [*kept, certificate][-MAX_KEPT:]

    def by_handle(self) -> Mapping[str, Sequence[Certificate]]:
        """What `decision.decide` asks for."""
        return self._kept

    def newest(self, handle: str) -> Optional[Certificate]:
        """The certificate that was added last."""
        kept = self._kept.get(handle)
        return kept[-1] if kept else None

    def keep_only(self, handles: Sequence[str]) -> None:
        """Forget those of all other handles."""
        self._kept = {handle: kept for handle, kept in self._kept.items() if handle in handles}
