# SPDX-License-Identifier: Apache-2.0
"""What verbs of gwms-ssh-broker share: the policy, the identity, the handles, and telling a running broker."""

from __future__ import annotations

import contextlib
import time
from typing import Optional

from glideinwms_bosco.broker.backends.make import known_public_key
from glideinwms_bosco.broker.paths import BrokerPaths, broker_paths
from glideinwms_bosco.broker.policy import Entry, KeyedPolicy, Policy, load_policy
from glideinwms_bosco.broker.process import tell_to_reload
from glideinwms_bosco.broker.seen_keys import SeenKeys
from glideinwms_bosco.broker.status_file import read_status
from glideinwms_bosco.cli import output
from glideinwms_bosco.errors import EXIT_OK, BrokerError, UsageError
from glideinwms_bosco.link.tls import Identity, load_identity
from glideinwms_bosco.sshwire.keys import PublicKey

PROGRAM = "gwms-ssh-broker"
TAKEN_UP_WITHIN_S = 10.0
"""A broker looks for what is to be written each half second; a key may take some seconds to decrypt."""
_POLL_S = 0.1


def read_policy() -> tuple[BrokerPaths, Policy]:
    """The policy as it stands in the file.

    Raises:
        PolicyFileError: it has problems.
    """
    paths = broker_paths()
    if not paths.policy.exists():
        raise UsageError(f"{paths.policy}: there is no policy yet", f"{PROGRAM} init")
    return paths, load_policy(paths.policy)


def read_identity(paths: BrokerPaths) -> Identity:
    """The broker's TLS identity.

    Raises:
        UsageError: there is none yet.
        LinkError: it cannot be read.
    """
    if not paths.certificate.exists():
        raise UsageError(f"{paths.certificate}: this broker has no identity yet", f"{PROGRAM} init")
    return load_identity(paths.certificate, paths.key)


def keyed_by_files(paths: BrokerPaths, policy: Policy) -> KeyedPolicy:
    """The policy with the handles of all entries whose public key is known."""
    known = {name: known_key(paths, entry) for name, entry in policy.entries.items()}
    keys = {name: key for name, key in known.items() if key is not None}
    return policy.keyed(read_identity(paths).spki_der, keys)


def known_key(paths: BrokerPaths, entry: Entry) -> Optional[PublicKey]:
    """The public key of an entry, if a file tells it or the broker has seen it."""
    return known_public_key(entry.key) or SeenKeys(paths.state_dir).get(entry.name, entry.key)


def policy_changed(paths: BrokerPaths, said: str, name: str = "") -> int:
    """Say what was done, have a running broker read it, and say what came of that.

    Args:
        name: the entry whose key has to be loaded now; empty: none has.
    """
    reloads = _reloads(paths)
    running = tell_to_reload(paths.pid)
    print(output.printable(f"{said}; {_taken_up(paths, name, reloads) if running else 'no broker runs'}"))
    return EXIT_OK


def _reloads(paths: BrokerPaths) -> int:
    """How often the running broker has read the policy again; 0 when none runs, or one that does not count yet."""
    with contextlib.suppress(BrokerError):
        count: int = read_status(paths.status, paths.pid)["policy"].get("reloads", 0)
        return count
    return 0


def _taken_up(paths: BrokerPaths, name: str, before: int) -> str:
    """Wait until the running broker has read the policy and tried the key; say in words what it does with it.

    Args:
        before: its reloads before it was told. The policy may be the same, and only the key another.
    """
    ends = time.monotonic() + TAKEN_UP_WITHIN_S
    while True:
        # A broker that is just starting has written nothing yet.
        with contextlib.suppress(BrokerError):
            status = read_status(paths.status, paths.pid)
            entry = status["entries"].get(name, {})
            if status["policy"].get("reloads", 0) > before and not entry.get("loading"):
                if status["policy"]["trouble"]:
                    return f"the running broker refuses it: {status['policy']['trouble']}"
                if entry.get("trouble"):
                    return f"the running broker has read it, and cannot sign with this key: {entry['trouble']}"
                return "the running broker uses it"
        if time.monotonic() > ends:
            return f"the running broker has not taken it up yet: {PROGRAM} status"
        time.sleep(_POLL_S)
