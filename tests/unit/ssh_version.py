# SPDX-License-Identifier: Apache-2.0
"""What the OpenSSH of this machine can do; tests of what came later than EL9's 8.7 are marked."""

from __future__ import annotations

import subprocess

import pytest

from glideinwms_bosco.relay.client_conf import sends_session_bind


def _ssh(option: str, *more: str) -> str:
    try:
        done = subprocess.run(["ssh", option, *more], capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        return ""
    return done.stdout or done.stderr


HAS_SESSION_BIND = sends_session_bind(_ssh("-V"))
KEY_EXCHANGES = frozenset(_ssh("-Q", "kex").split())
# Logins of an older ssh go through the tap: tests/unit/test_relay_tap.py.
needs_session_bind = pytest.mark.skipif(not HAS_SESSION_BIND, reason="this ssh is older than 8.9: no session-bind")


def skip_unknown_key_exchange(name: str) -> None:
    """Skip the test if the ssh here does not know a key exchange."""
    if name not in KEY_EXCHANGES:
        pytest.skip(f"this ssh does not know {name}")
