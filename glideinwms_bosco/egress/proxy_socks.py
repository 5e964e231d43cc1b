# SPDX-License-Identifier: Apache-2.0
"""danted.conf of an egress proxy of kind socks5: Dante opens the forwards, for the site's addresses. Pure.

Written for Dante 1.4. Within a rule each word stands on a line of its own: its parser stumbles over `protocol` behind
`port`. The first rule that matches decides, and a name matches a rule when an address of it does; what keeps a name's
other addresses shut is the unit, which lets the daemon reach the listed ones alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from glideinwms_bosco.egress.listed import ANY_ADDRESS, INWARD, Listed
from glideinwms_bosco.site.network import Forward, is_numeric

NEGOTIATE_S = 30
CONNECT_S = 10
"""Before proxychains loses its patience."""
IDLE_S = 86_400
_ALL = "connect disconnect error"
_ANYWHERE = f"{ANY_ADDRESS}/0"


def danted_conf(rules: Listed) -> str:
    """The text of danted.conf."""
    # It binds what goes out to an address of its own host, which has to be named.
    external = rules.egress.host if rules.listen == ANY_ADDRESS else rules.listen
    head = (
        f"# Egress proxy {rules.egress.target} of site {rules.site}: made by `gwms-bosco egress proxy`.",
        "logoutput: stderr",
        f"internal: {rules.listen} port = {rules.egress.port}",
        f"external: {external}",
        "clientmethod: none",
        "socksmethod: none",
        f"timeout.negotiate: {NEGOTIATE_S}",
        f"timeout.connect: {CONNECT_S}",
        f"timeout.io: {IDLE_S}",
    )
    return "".join(f"{line}\n" for line in (*head, *_access(rules)))


def _access(rules: Listed) -> Iterator[str]:
    for source in rules.sources:
        yield from _rule("client pass", source, _ANYWHERE, log="error")
    yield from _rule("client block", _ANYWHERE, _ANYWHERE, log="connect")
    for numeric in (True, False):
        if not numeric and not rules.all_numeric:
            for network in INWARD:
                yield from _rule("socks block", _ANYWHERE, network, log="connect")
        for target in rules.targets:
            if is_numeric(target.host) == numeric:
                yield from _open(target, rules.sources)
    yield from _rule("socks block", _ANYWHERE, _ANYWHERE, log="connect")


def _open(target: Forward, sources: tuple[str, ...]) -> Iterator[str]:
    place = f"{target.host}/32" if is_numeric(target.host) else target.host.lower()
    for source in sources:
        where = f"{place} port = {target.port}"
        yield from _rule(
            "socks pass", source, where, "command: connect", "protocol: tcp", log="connect disconnect error"
        )


def _rule(what: str, source: str, target: str, *words: str, log: str) -> Iterator[str]:
    yield f"{what} {{"
    for line in (f"from: {source} to: {target}", *words, f"log: {log}"):
        yield f"    {line}"
    yield "}"
