# SPDX-License-Identifier: Apache-2.0
"""What entries are made of besides their site file: what pilots bring along, the budget of web proxies that they share
with entries of other sites, and originals of external entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from glideinwms_bosco.cli.entry_show import factory_configuration
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.entry.external import Originals, find_originals
from glideinwms_bosco.entry.limits import entry_limits
from glideinwms_bosco.entry.publish import HEAD_BYTES, is_ours
from glideinwms_bosco.entry.render import ALONE, Surroundings, file_name
from glideinwms_bosco.errors import Problem
from glideinwms_bosco.pilot.plan import pilot_plan
from glideinwms_bosco.pilot.scripts import default_scripts_dir
from glideinwms_bosco.pilot.store import FOLDER
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.webproxy.asked import asked_proxies
from glideinwms_bosco.webproxy.budget import Budget, budget


def pilot_dir(settings: Settings) -> Path:
    """Where the files of pilots are stored on the factory."""
    return settings.state_dir / FOLDER


def surroundings(
    site: SiteDescription, settings: Optional[Settings], spread_s: int = 0
) -> tuple[Surroundings, tuple[Problem, ...]]:
    """Read what a site's entries need besides its file.

    Args:
        site: the site.
        settings: of the factory; None: nothing is read.
        spread_s: the window in which its pilots start to ask web proxies (s).

    Returns:
        What could be read, and what stands against rendering.
    """
    if settings is None:
        return ALONE, ()
    plan, problems = pilot_plan(site, settings.scripts_dir or default_scripts_dir(), spread_s)
    originals, missing = _originals(site, settings)
    return Surroundings(plan, pilot_dir(settings), originals), (*problems, *missing)


def proxy_budget(sites: Sequence[SiteDescription], settings: Settings) -> Budget:
    """The budget of all web proxies that these sites name, with the limits that their entries will have."""
    limits: dict[str, Optional[int]] = {}
    for site in sites:
        if site.runtime is not None and (site.runtime.web_proxies is not None or asked_proxies(site)):
            limits.update(entry_limits(site, _originals(site, settings)[0]))
    return budget(sites, limits)


def _originals(site: SiteDescription, settings: Settings) -> tuple[Originals, tuple[Problem, ...]]:
    return find_originals(site, factory_configuration(settings), file_name(site, settings.order), _is_ours)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_ours(path.name, stream.read(HEAD_BYTES))
