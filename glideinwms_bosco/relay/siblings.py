# SPDX-License-Identifier: Apache-2.0
"""Which other handles stand in a handle's ssh configuration, so that a jump host is served by its own handle.

Only the factory's configuration knows the jump hosts, so all handles of a broker could be meant. With a thousand of
them a thousand files of a thousand blocks would fill the socket folder; so each file has those that are nearest by
name, as a site's jump host and login host mostly are of one domain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain

from glideinwms_bosco.relay.offered import OfferedHandle

MAX_SIBLINGS = 32
"""Of one handle; up to so many handles of a broker, each file has them all."""
_DOMAIN_LABELS = 2


def with_siblings(handles: Collection[OfferedHandle]) -> Iterator[tuple[OfferedHandle, tuple[OfferedHandle, ...]]]:
    """Give each handle of a broker the others of its purpose that are for other accounts, the nearest first."""
    near: dict[tuple[str, str], list[OfferedHandle]] = {}
    every: dict[str, list[OfferedHandle]] = {}
    accounts = {offered.handle: _accounts(offered) for offered in handles}
    for offered in handles:
        every.setdefault(offered.purpose, []).append(offered)
        for domain in _domains(offered):
            near.setdefault((offered.purpose, domain), []).append(offered)
    for own in handles:
        mine = accounts[own.handle]
        found: dict[str, OfferedHandle] = {}
        lists = [near[own.purpose, domain] for domain in _domains(own)]
        for other in chain(*lists, every[own.purpose]):
            if mine.isdisjoint(accounts[other.handle]):
                found[other.handle] = other
                if len(found) == MAX_SIBLINGS:
                    break
        yield own, tuple(found.values())


def _accounts(offered: OfferedHandle) -> frozenset[tuple[str, str]]:
    return frozenset((offered.user, host.name) for host in offered.hosts)


def _domains(offered: OfferedHandle) -> list[str]:
    return sorted({".".join(host.name.split(".")[-_DOMAIN_LABELS:]) for host in offered.hosts})
