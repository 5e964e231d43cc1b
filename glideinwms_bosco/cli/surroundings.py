# SPDX-License-Identifier: Apache-2.0
"""What entries are made of besides their site file: what pilots bring along, and originals of external entries."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from glideinwms_bosco.cli.entry_show import factory_configuration
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.entry.external import find_originals
from glideinwms_bosco.entry.publish import HEAD_BYTES, is_ours
from glideinwms_bosco.entry.render import ALONE, Surroundings, file_name
from glideinwms_bosco.errors import Problem
from glideinwms_bosco.pilot.plan import pilot_plan
from glideinwms_bosco.pilot.scripts import default_scripts_dir
from glideinwms_bosco.pilot.store import FOLDER
from glideinwms_bosco.site.model import SiteDescription


def pilot_dir(settings: Settings) -> Path:
    """Where the files of pilots are stored on the factory."""
    return settings.state_dir / FOLDER


def surroundings(site: SiteDescription, settings: Optional[Settings]) -> tuple[Surroundings, tuple[Problem, ...]]:
    """Read what a site's entries need besides its file.

    Args:
        site: the site.
        settings: of the factory; None: nothing is read.

    Returns:
        What could be read, and what stands against rendering.
    """
    if settings is None:
        return ALONE, ()
    plan, problems = pilot_plan(site, settings.scripts_dir or default_scripts_dir())
    originals, missing = find_originals(
        site, factory_configuration(settings), file_name(site, settings.order), _is_ours
    )
    return Surroundings(plan, pilot_dir(settings), originals), (*problems, *missing)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_ours(path.name, stream.read(HEAD_BYTES))
