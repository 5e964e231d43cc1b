# SPDX-License-Identifier: Apache-2.0
"""What ssh prints becomes the right class, with the place and a next step."""

from __future__ import annotations

import pytest

from glideinwms_bosco.errors import (
    AuthenticationError,
    ConnectionLostError,
    HostKeyError,
    RemoteError,
    ThrottledError,
    UnreachableError,
)
from glideinwms_bosco.remote.ssh_errors import classify_ssh_failure

FINGERPRINT = "SHA256:" + "a" * 43

# Texts of OpenSSH with LC_ALL=C, where the tables of ssh_errors.py say.
CASES: list[tuple[str, type[RemoteError], str]] = [
    ("ssh: connect to host h port 22: Connection refused", UnreachableError, "refuses the connection"),
    ("ssh: connect to host h port 22: Connection timed out", UnreachableError, "does not answer"),
    ("ssh: connect to host h port 22: No route to host", UnreachableError, "no route"),
    ("ssh: connect to host h port 22: Network is unreachable", UnreachableError, "no route"),
    ("ssh: Could not resolve hostname h: Name or service not known", UnreachableError, "name service"),
    ("Connection timed out during banner exchange", UnreachableError, "did not begin the ssh handshake"),
    ("kex_exchange_identification: read: Connection reset by peer", ThrottledError, "PerSourcePenalties"),
    ("kex_exchange_identification: Connection closed by remote host", ThrottledError, "PerSourcePenalties"),
    ("channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed", UnreachableError,
     "refuses the connection"),
    ("channel 0: open failed: administratively prohibited: open failed\nstdio forwarding failed", UnreachableError,
     "AllowTcpForwarding"),
    ("stdio forwarding failed\nkex_exchange_identification: Connection closed by remote host", UnreachableError,
     "through the jump host"),
    ("Unable to negotiate with 10.0.0.1 port 22: no matching key exchange method found. Their offer: x",
     UnreachableError, "no encryption algorithm in common"),
    ("Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. Their offer: ssh-dss", HostKeyError,
     "gwms-bosco site hostkeys h"),
    ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nThe fingerprint for the ED25519 key sent by the remote host"
     f" is\n{FINGERPRINT}.\nHost key verification failed.", HostKeyError, FINGERPRINT),
    ("No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.",
     HostKeyError, "type that is not pinned"),
    ("pilot@h: Permission denied (publickey).", AuthenticationError, "authorized_keys"),
    ("pilot@h: Permission denied (publickey,gssapi-with-mic,password).", AuthenticationError, "authorized_keys"),
    ("Received disconnect from h port 22:2: Too many authentication failures", AuthenticationError, "--key FILE"),
    ('Load key "/k": error in libcrypto\npilot@h: Permission denied (publickey).', AuthenticationError, "key file"),
    ("no such identity: /k: No such file or directory\npilot@h: Permission denied (publickey).", AuthenticationError,
     "key file cannot be read"),
    ("WARNING: UNPROTECTED PRIVATE KEY FILE!\npilot@h: Permission denied (publickey).", AuthenticationError, "chmod"),
    ("Timeout, server h not responding.", ConnectionLostError, "lost the connection"),
    ("Connection to h closed by remote host.", ConnectionLostError, "lost the connection"),
    ("mux_client_request_session: read from master failed: Broken pipe", ConnectionLostError, "lost the connection"),
    ("mux_client_request_session: session request failed: Session open refused by peer", RemoteError, "MaxSessions"),
    ("Connection closed by 10.0.0.1 port 22", UnreachableError, "closed the connection during login"),
    ("Connection reset by 10.0.0.1 port 22", UnreachableError, "PerSourcePenalties"),
    ("something new", UnreachableError, "something new"),
    ("", UnreachableError, "no reason"),
]  # fmt: skip


@pytest.mark.parametrize(("stderr", "kind", "part"), CASES)
def test_classifies(stderr: str, kind: type[RemoteError], part: str) -> None:
    error = classify_ssh_failure(f"banner\n{stderr}\n", where="pilot@h:22", host="h", port=22, site="s") \
        if stderr else classify_ssh_failure("", where="pilot@h:22", host="h", port=22, site="s")  # fmt: skip
    assert type(error) is kind
    assert part in str(error)
    assert str(error).startswith("site s: pilot@h:22")
    assert error.hint


def test_text_that_no_row_knows_is_shown_without_control_characters() -> None:
    error = classify_ssh_failure("\x1b]0;x\x07new", where="pilot@h:22", host="h", port=22)
    assert "?]0;x?new" in error.message
