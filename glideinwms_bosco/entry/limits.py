# SPDX-License-Identifier: Apache-2.0
"""How many pilots each entry may have, as reconfig reads it: from fields, `raw`, or an external entry's original."""

from __future__ import annotations

import re
from typing import Optional

from lxml import etree

from glideinwms_bosco.entry.defaults import with_defaults
from glideinwms_bosco.entry.external import Originals
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.render import Surroundings, render_site
from glideinwms_bosco.errors import BatchError, EntryError
from glideinwms_bosco.site.model import SiteDescription

_GLIDEINS = "config/max_jobs/per_entry/@glideins"
_NUMBER = re.compile(r"[0-9]{1,9}")


def entry_limits(site: SiteDescription, originals: Originals) -> dict[str, Optional[int]]:
    """Entry -> the most pilots of it at once, in all states; glideinWMS's default where nothing is said.

    Args:
        site: the site.
        originals: of its external entries.

    Returns:
        None for an external entry without original, and for one that cannot be rendered.
    """
    try:
        meanings = entry_meanings(etree.fromstring(render_site(site, Surroundings(originals=originals))))
    except (BatchError, EntryError):
        meanings = {}
    return {entry.name: _limit(meanings.get(entry.name)) for entry in site.entries}


def _limit(meaning: Optional[Meaning]) -> Optional[int]:
    if meaning is None:
        return None
    if meaning.get("@enabled") == "False":
        return 0
    text = with_defaults(meaning)[0][_GLIDEINS]
    return int(text) if _NUMBER.fullmatch(text) else None
