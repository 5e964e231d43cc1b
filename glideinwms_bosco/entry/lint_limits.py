# SPDX-License-Identifier: Apache-2.0
"""Rules about how many pilots an entry may have, and how fast they come."""

from __future__ import annotations

import re
from typing import Optional

from lxml import etree

from glideinwms_bosco.entry.configuration import child, elements
from glideinwms_bosco.entry.lint_context import Scope, shown

# Source: glideinWMS 3.10 creation/lib/factory_defaults.xml.
_PER_ENTRY = {"glideins": 10_000, "held": 1_000, "idle": 2_000}
_PER_FRONTEND = {"glideins": 5_000, "held": 50, "idle": 100}
# Element of <config> -> attributes that count per cycle; attributes in seconds.
_RATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "submit": (("cluster_size", "max_per_cycle"), ("sleep",)),
    "release": (("max_per_cycle",), ("sleep",)),
    "remove": (("max_per_cycle",), ("sleep",)),
    "stale_age": ((), ("idle", "running", "unclaimed")),
}
_INTEGER = re.compile(r" *\+?[0-9]{1,15} *")
_NUMBER = re.compile(r" *\+?([0-9]{1,15}(\.[0-9]{0,15})?|\.[0-9]{1,15}) *")
# Read by int(); a negative one means never.
_WHOLE_SECONDS = re.compile(r" *[+-]?[0-9]{1,15} *")


def check_limits(scope: Scope) -> None:
    """Check the section `<config>` of an entry."""
    config = scope.path("config")
    if config is None:
        return
    max_jobs = child(config, "max_jobs")
    if max_jobs is not None:
        _max_jobs(scope, max_jobs)
    for tag, (counts, times) in _RATES.items():
        element = child(config, tag)
        if element is None:
            continue
        for name in counts:
            if _count(scope, element, name, None) == 0:
                scope.found(36, element, f"<{tag}> {name}=0: nothing happens")
        for name in times:
            value = element.get(name)
            pattern = _WHOLE_SECONDS if tag == "stale_age" else _NUMBER
            if value is not None and not pattern.fullmatch(value):
                scope.found(35, element, f"<{tag}> {name}={shown(str(value))} is no number of seconds")


def _count(scope: Scope, element: etree._Element, name: str, default: Optional[int]) -> Optional[int]:
    """A limit; None if it cannot be read, which is then noted, or is not given and has no default."""
    value = element.get(name)
    if value is None:
        return default
    if not _INTEGER.fullmatch(value):
        scope.found(30, element, f"<{element.tag}> {name}={shown(str(value))} is no whole number of 0 or more")
        return None
    return int(value)


def _max_jobs(scope: Scope, max_jobs: etree._Element) -> None:
    per_entry = child(max_jobs, "per_entry")
    most: Optional[int] = _PER_ENTRY["glideins"]
    if per_entry is not None:
        most = _block(scope, per_entry, _PER_ENTRY, "pilots of the entry")
    default = child(max_jobs, "default_per_frontend")
    blocks = [] if default is None else [(default, "pilots of one frontend")]
    for element in elements(max_jobs, "per_frontends", "per_frontend"):
        blocks.append((element, f"pilots of frontend {shown(str(element.get('name', '')))}"))
    for element, whose in blocks:
        limit = _block(scope, element, _PER_FRONTEND, whose)
        # Defaults alone, 5,000 of 10,000 at first, are nobody's mistake.
        if limit is not None and most is not None and limit > most and element.get("glideins") is not None:
            scope.found(33, element, f"{limit} {whose} are more than the {most} of the entry")


def _block(scope: Scope, element: etree._Element, defaults: dict[str, int], whose: str) -> Optional[int]:
    glideins, held, idle = (_count(scope, element, name, defaults[name]) for name in ("glideins", "held", "idle"))
    stated_idle = element.get("idle") is not None
    if glideins == 0:
        scope.found(34, element, f"no {whose} are allowed")
    elif glideins is not None and idle is not None and idle > glideins and stated_idle:
        scope.found(31, element, f"{idle} idle {whose} are more than the {glideins} allowed")
    if held == 0:
        scope.found(32, element, f"no held {whose} are allowed")
    return glideins
