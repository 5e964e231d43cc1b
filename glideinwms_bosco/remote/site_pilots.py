# SPDX-License-Identifier: Apache-2.0
"""Pilots that say themselves that they run: each leaves an empty file in ~/<bosco_dir>/pilots/ until it ends. Pure.

It is called <node>.<process>.<seconds since 1970>.<hand|batch>. No schedd knows those that were started by hand. Any
program of the account may write there, so what does not look like that says nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from glideinwms_bosco.remote.messages import MessageFormatError, Reply
from glideinwms_bosco.site.network import PILOT_LIFE_DAYS

MAX_MARKERS = 5000
"""Files that are looked at."""
MAX_AGE_S = PILOT_LIFE_DAYS * 86400
"""A file that is older (s) was left by a node that died."""
MAX_AHEAD_S = 3600
"""Nodes' clocks may be this much (s) ahead of the login node's."""
MAX_NODES = 10
_MARKER = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,199})\.([0-9]{1,10})\.([0-9]{1,12})\.(hand|batch)")


@dataclass(frozen=True)
class SitePilots:
    """What the pilots of an account say.

    Attributes:
        hand, batch: how many were started by hand and by the batch system.
        hand_nodes: where those by hand run, sorted, up to MAX_NODES.
        more_nodes: there are more of these.
    """

    hand: int = 0
    batch: int = 0
    hand_nodes: tuple[str, ...] = ()
    more_nodes: bool = False


def parse_markers(reply: Reply) -> SitePilots:
    """Count the PILOT lines of scripts/pilots.sh.

    Raises:
        MessageFormatError: the login node's time is missing.
    """
    now = reply.only("NOW")
    if not re.fullmatch(r"[0-9]{1,12}", now):
        raise MessageFormatError(f"NOW {now[:40]!r}")
    counts = {"hand": 0, "batch": 0}
    nodes = set()
    for value in reply.values("PILOT")[:MAX_MARKERS]:
        found = _MARKER.fullmatch(value)
        if found is None or not -MAX_AHEAD_S <= int(now) - int(found[3]) <= MAX_AGE_S:
            continue
        counts[found[4]] += 1
        if found[4] == "hand":
            nodes.add(found[1])
    shown = tuple(sorted(nodes)[:MAX_NODES])
    return SitePilots(counts["hand"], counts["batch"], shown, len(nodes) > MAX_NODES)
