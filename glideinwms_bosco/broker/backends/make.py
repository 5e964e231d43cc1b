# SPDX-License-Identifier: Apache-2.0
"""From where the policy says a key is to the backend that signs with it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from glideinwms_bosco.broker.backends.agent_client import DEADLINE_S
from glideinwms_bosco.broker.backends.agent_process import KeyFileBackend
from glideinwms_bosco.broker.backends.agent_socket import AgentSocketBackend
from glideinwms_bosco.broker.backends.exec_key import ExecKeyBackend
from glideinwms_bosco.broker.backends.model import KeyBackend
from glideinwms_bosco.broker.backends.ssh_add import KeyFile
from glideinwms_bosco.broker.policy_model import KeySource
from glideinwms_bosco.errors import KeyBackendError, WireError
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized


def make_backend(name: str, source: KeySource, folder: Path, deadline_s: float = DEADLINE_S) -> KeyBackend:
    """Make the backend of a key; it is not started.

    Args:
        name: opens log lines: the entry, or `entry's CA`.
        folder: private to this backend.

    Raises:
        KeyBackendError: the source lacks what its backend needs.
    """
    if source.backend == "ssh-agent" and source.file:
        key = known_public_key(source)
        return KeyFileBackend(name, key, KeyFile(Path(source.file), source.passphrase), folder, deadline_s)
    if source.backend == "pkcs11" and source.provider:
        file = KeyFile(Path(source.provider), source.passphrase, is_provider=True)
        return KeyFileBackend(name, source.public, file, folder, deadline_s)
    if source.backend == "agent-socket" and source.socket:
        return AgentSocketBackend(name, source.public, Path(source.socket), deadline_s)
    if source.backend == "exec" and source.command:
        return ExecKeyBackend(name, source.public, source.command, source.passphrase, folder, deadline_s)
    raise KeyBackendError(f"{name}: no key backend {source.backend!r} can be made of what the policy says")


def known_public_key(source: KeySource) -> Optional[PublicKey]:
    """The public key of a source as far as files tell; with it a handle is known even while its key cannot be loaded.

    Returns:
        None when only the backend knows it.
    """
    if source.public is not None or source.file is None:
        return source.public
    try:
        return parse_authorized(Path(f"{source.file}.pub").read_text("ascii"))
    except (OSError, ValueError, WireError):
        return None
