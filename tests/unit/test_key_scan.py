# SPDX-License-Identifier: Apache-2.0
"""What ssh-keyscan prints, and what it never should."""

from __future__ import annotations

import pytest

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.key_scan import KeyScan, no_key, parse


def test_takes_the_keys_and_leaves_banner_and_name() -> None:
    assert parse("# h:22 SSH-2.0-OpenSSH_9.2\nh ssh-rsa AAAA\n\nh ssh-ed25519 BBBB\n", "h:22") == (
        "ssh-rsa AAAA",
        "ssh-ed25519 BBBB",
    )


@pytest.mark.parametrize("line", ["x", "h ssh-rsa", "h ssh-rsa AAAA x"])
def test_refuses_an_unexpected_line(line: str) -> None:
    with pytest.raises(RemoteError, match="unexpected line"):
        parse(line, "h:22")


def test_no_key_says_what_ssh_keyscan_said() -> None:
    trouble = "getaddrinfo h: Name or service not known"
    assert no_key(KeyScan("h:22", (), trouble)).message == f"h:22 shows no host key ({trouble})"
    assert no_key(KeyScan("h:22", (), "")).message == "h:22 shows no host key"
