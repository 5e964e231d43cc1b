# SPDX-License-Identifier: Apache-2.0
"""The pilots of each account as the factory's schedds have them: counted from their job ads.

An account's pilots are known by their grid resource: who logs in where, and the install folder, as one account may
serve two sites.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from glideinwms_bosco.errors import ScheddError
from glideinwms_bosco.remote.schedd import bindings, worded
from glideinwms_bosco.site.model import DEFAULT_BOSCO_DIR, DEFAULT_SSH_PORT, Account, SiteDescription

MAX_HOLD_REASONS = 3
MAX_REASON_CHARS = 300
# Source: HTCondor manual, job ClassAd attributes, JobStatus and JobUniverse.
_STATES = {1: "idle", 2: "running", 5: "held", 6: "running"}
_GRID_UNIVERSE = 9
_ENTRY = "GlideinEntryName"
"""Source: glideinWMS 3.10 creation/lib/cgWCreate.py, GlideinSubmitDictFile.populate."""
_PROJECTION = ["GridResource", "JobStatus", "HoldReason", "EnteredCurrentStatus", _ENTRY]
_GATEKEEPER = re.compile(r"([^@\s]+)@([^@\s:]+)(?::([0-9]{1,5}))?")
_FOLDER = re.compile(r"(?:~/|)(.+)/glite/?")

Place = tuple[str, str, int, str]
"""User, host in lower case, port, install folder relative to the home."""


@dataclass(frozen=True)
class HoldReason:
    """Why pilots are held: HTCondor's text, how many, and when the last of them was held (UNIX time)."""

    reason: str
    count: int
    at: int


@dataclass(frozen=True)
class Pilots:
    """Pilots of one account by state; `other` are being removed or have ended. The last hold reasons first."""

    running: int = 0
    idle: int = 0
    held: int = 0
    other: int = 0
    hold_reasons: tuple[HoldReason, ...] = ()


def account_place(site: SiteDescription, account: Account) -> Place:
    """Where an account's pilots are submitted to."""
    login = site.required_login()
    return account.user, login.host.lower(), login.port, site.install.folder


def parse_grid_resource(text: str) -> Optional[Place]:
    """`batch slurm user@host --rgahp-glite ~/bosco/glite` and the like; None for another kind of grid resource.

    Source: remote_gahp of HTCondor 23.9 takes its options before or behind the host; those with a value take the next
    word.
    """
    words = text.split()
    if len(words) < 3 or words[0].lower() != "batch":
        return None
    folder, found, rest = DEFAULT_BOSCO_DIR, None, iter(words[2:])
    for word in rest:
        if word == "--rgahp-glite":
            place = _FOLDER.fullmatch(next(rest, ""))
            folder = place[1] if place else ""
        elif word == "--rgahp-key":
            next(rest, "")
        elif not word.startswith("-"):
            found = found or _GATEKEEPER.fullmatch(word)
    if found is None:
        return None
    return found[1], found[2].lower(), int(found[3] or DEFAULT_SSH_PORT), folder


def count_pilots(ads: Iterable[Mapping[str, Any]]) -> dict[Place, Pilots]:
    """Count job ads by account."""
    states: dict[Place, list[str]] = {}
    reasons: dict[Place, dict[str, tuple[int, int]]] = {}
    for ad in ads:
        place = parse_grid_resource(str(ad.get("GridResource", "")))
        if place is None:
            continue
        state = _STATES.get(ad.get("JobStatus", 0), "other")
        states.setdefault(place, []).append(state)
        if state == "held":
            reason = " ".join(str(ad.get("HoldReason", "no reason given")).split())[:MAX_REASON_CHARS]
            count, at = reasons.setdefault(place, {}).get(reason, (0, 0))
            reasons[place][reason] = (count + 1, max(at, int(ad.get("EnteredCurrentStatus", 0))))
    return {
        place: Pilots(
            **{state: names.count(state) for state in ("running", "idle", "held", "other")},
            hold_reasons=_last_reasons(reasons.get(place, {})),
        )
        for place, names in states.items()
    }


def _last_reasons(found: Mapping[str, tuple[int, int]]) -> tuple[HoldReason, ...]:
    rows = [HoldReason(reason, count, at) for reason, (count, at) in found.items()]
    return tuple(sorted(rows, key=lambda row: (-row.at, row.reason))[:MAX_HOLD_REASONS])


def count_running(ads: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count the pilots that run by entry, external ones too."""
    return dict(
        Counter(str(ad[_ENTRY]) for ad in ads if _ENTRY in ad and _STATES.get(ad.get("JobStatus", 0)) == "running")
    )


def query_pilots() -> list[Mapping[str, Any]]:
    """Ask every schedd that the factory's collector knows for its pilots: glideinWMS spreads entries over several.

    Returns:
        Job ads with what is counted here.

    Raises:
        ScheddError: one of them cannot be asked; no count would be true then.
    """
    htcondor2 = bindings()
    ads: list[Mapping[str, Any]] = []
    with worded("the collector cannot be asked for schedds"):
        schedds = htcondor2.Collector().locateAll(htcondor2.DaemonType.Schedd)
    if not schedds:
        raise ScheddError("the collector knows no schedd", "is HTCondor running, and CONDOR_CONFIG set?")
    for schedd in schedds:
        with worded(f"schedd {schedd.get('Name', '')} cannot be asked for pilots"):
            constraint = f"JobUniverse == {_GRID_UNIVERSE}"
            ads += htcondor2.Schedd(schedd).query(constraint=constraint, projection=_PROJECTION)
    return ads
