# SPDX-License-Identifier: Apache-2.0
"""What the daemon asks of a key backend, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Optional, Protocol

from glideinwms_bosco.errors import KeyBackendError, WireError
from glideinwms_bosco.sshwire.certificate import Certificate, is_certificate
from glideinwms_bosco.sshwire.keys import PublicKey, fingerprint, parse_public_key


class KeyBackend(Protocol):
    """Signs with one key. One backend serves one entry, so that one that hangs holds up nobody else."""

    @property
    def trouble(self) -> str:
        """Why it cannot sign now, in one line; empty when it can."""

    @property
    def public_key(self) -> Optional[PublicKey]:
        """The key that it signs with; None while that is not known yet."""

    @property
    def earlier_key(self) -> Optional[PublicKey]:
        """The key before, where keys change; it is still signed with for logins that are under way."""

    @property
    def certificate(self) -> Optional[Certificate]:
        """The user certificate that came with the key from outside, while it is valid."""

    @property
    def agent_socket(self) -> Path:
        """The agent that holds the key, for ssh-keygen."""

    async def start(self) -> None:
        """Get ready; returns after the first try, whose failure is told by `trouble` and mended in the background."""

    async def sign(self, data: bytes, flags: int, key: Optional[PublicKey] = None) -> bytes:
        """Sign.

        Args:
            flags: SSH_AGENT_RSA_SHA2_256 or _512 for an RSA key, else 0.
            key: `public_key` or `earlier_key`; None for the first.

        Returns:
            An SSH signature blob.

        Raises:
            KeyBackendError: no signature; always within the backend's deadline.
        """

    async def close(self) -> None:
        """End it and wipe what it keeps."""


def choose_key(held: Iterable[tuple[bytes, str]], expected: Optional[PublicKey], where: str) -> PublicKey:
    """Find a backend's key among those of an agent.

    Args:
        held: public key blobs and comments; certificates among them are passed over.
        expected: the key that it must be; None takes the only one.
        where: opens the message.

    Raises:
        KeyBackendError: it is not there, or there are several and none is expected.
    """
    blobs = [blob for blob, _ in held if not is_certificate(blob)]
    found = ", ".join(fingerprint(blob) for blob in blobs) or "no key"
    if expected is not None:
        if expected.blob not in blobs:
            raise KeyBackendError(f"{where}: holds {found}, not the expected key {expected.fingerprint}")
        return expected
    if len(blobs) != 1:
        raise KeyBackendError(f"{where}: holds {found}", "name the one to use: `public` in the policy")
    try:
        return parse_public_key(blobs[0])
    except WireError as err:
        raise KeyBackendError(f"{where}: {err.message}", err.hint) from None
