# SPDX-License-Identifier: Apache-2.0
"""What the daemon says about itself: a JSON file, written whole at each change and every few seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.broker.dialer import FactoryState
from glideinwms_bosco.broker.keyring import KeyRing
from glideinwms_bosco.broker.policy_model import Entry, KeyedPolicy
from glideinwms_bosco.broker.process import running_pid
from glideinwms_bosco.errors import BrokerError
from glideinwms_bosco.sshwire.handle import MAINTAIN

VERSION = 1
EVERY_S = 5.0
STALE_S = 30.0
"""A file older than this, with a broker that runs, means that the broker hangs."""
MAX_FILE_BYTES = 16 << 20
MODE = 0o644


@dataclass(frozen=True)
class DaemonState:
    """What is written.

    Attributes:
        reloads: how often the policy file was read again, with or without success.
        policy_trouble: why the newest policy file is not in use; empty when it is.
        opened: entry name -> unix seconds until which maintenance is open.
    """

    pid: int
    started: float
    pin: str
    keyed: KeyedPolicy
    reloads: int
    policy_trouble: str
    ring: KeyRing
    factories: Mapping[str, FactoryState]
    opened: Mapping[str, float]
    signed: int
    denied: int
    audit_seq: int


def status_content(state: DaemonState, now: float) -> bytes:
    """The content of the file."""
    policy = state.keyed.policy
    content = {
        "version": VERSION,
        "time": int(now),
        "pid": state.pid,
        "started": int(state.started),
        "broker": state.pin,
        "policy": {
            "file": policy.file,
            "sha256": policy.digest,
            "reloads": state.reloads,
            "trouble": state.policy_trouble,
        },
        "entries": {name: _entry(state, entry, now) for name, entry in policy.entries.items()},
        "factories": {name: _factory(found) for name, found in state.factories.items()},
        "signed": state.signed,
        "denied": state.denied,
        "audit_seq": state.audit_seq,
    }
    return (json.dumps(content, indent=2) + "\n").encode("utf-8")


def write_status(path: Path, content: bytes) -> None:
    """Write the file.

    Raises:
        OSError: it is as it was.
    """
    write_atomic(path, content, MODE)


def _entry(state: DaemonState, entry: Entry, now: float) -> dict[str, Any]:
    backend = state.ring.backend(entry.key)
    handles = {h.purpose: h.handle for h in state.keyed.handles.values() if h.entry.name == entry.name}
    until = state.opened.get(entry.name, 0.0)
    trouble = (backend.trouble if backend else "its key is not loaded") if entry.enabled else ""
    return {
        "enabled": entry.enabled,
        "trouble": trouble,
        "loading": entry.enabled and state.ring.is_starting(entry.key),
        "key": backend.public_key.fingerprint if backend and backend.public_key else None,
        "handles": handles,
        "open_until": int(until) if MAINTAIN in handles and until > now else None,
    }


def _factory(state: FactoryState) -> dict[str, Any]:
    return {
        "up": state.up,
        "since": int(state.since),
        "trouble": state.trouble,
        "peer": state.peer,
        "rtt_ms": round(state.rtt_s * 1000, 3) if state.rtt_s is not None else None,
        "clock_skew_s": round(state.clock_skew_s, 3),
        "offered": state.offered,
        "refused": state.refused,
    }


def read_status(path: Path, pid_file: Path, now: Optional[float] = None) -> Mapping[str, Any]:
    """Read what the running broker says.

    Raises:
        BrokerError: no broker runs, it has written nothing yet, or it hangs.
    """
    pid = running_pid(pid_file)
    if pid is None:
        raise BrokerError("the broker does not run", "systemctl start gwms-ssh-broker, or: gwms-ssh-broker run")
    try:
        with path.open("rb") as stream:
            content: Any = json.loads(stream.read(MAX_FILE_BYTES))
        if content["version"] != VERSION:
            raise BrokerError(f"{path}: written by another version", "restart the broker")
        if content["pid"] != pid:
            raise BrokerError(f"{path}: the broker (pid {pid}) is just starting", "ask again in a moment")
        age_s = (time.time() if now is None else now) - content["time"]
    except OSError as err:
        raise BrokerError(f"{path}: cannot be read: {err.strerror}", "is the broker just starting?") from None
    except (ValueError, KeyError, TypeError):
        raise BrokerError(f"{path}: is no status file", "restart the broker") from None
    if age_s > STALE_S:
        raise BrokerError(f"the broker (pid {pid}) has said nothing for {age_s:.0f} s: it hangs", "restart it")
    found: Mapping[str, Any] = content
    return found
