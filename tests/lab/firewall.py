# SPDX-License-Identifier: Apache-2.0
"""Firewalls of lab hosts: real nftables rules in the host's network name space."""

from __future__ import annotations

from tests.lab.host import Host

_CLOSED = """\
table inet lab {
  chain input {
    type filter hook input priority 0; policy drop;
    iif "lo" accept
    ct state established,related accept
  }
}
"""


def close(host: Host) -> None:
    """Let nothing in but answers to what the host itself has begun."""
    host.run(["nft", "-f", "-"], text_in=_CLOSED)
