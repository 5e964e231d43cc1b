# SPDX-License-Identifier: Apache-2.0
"""The job wrapper of closed sites, packed for their bundles."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Optional

from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.egress.conf import JOB_WRAPPER
from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from glideinwms_bosco.site.job_wrapper import needs_job_wrapper
from glideinwms_bosco.site.model import SiteDescription


def job_wrapper(site: SiteDescription, settings: Optional[Settings]) -> Optional[bytes]:
    """The packed script for a site's bundle; None when it needs none.

    Raises:
        PilotError: it cannot be packed.
    """
    if not needs_job_wrapper(site):
        return None
    return _packed((settings.scripts_dir if settings is not None else None) or default_scripts_dir())


# It is the same for all sites of a command.
@functools.lru_cache(maxsize=1)
def _packed(folder: Path) -> bytes:
    return pack_script(JOB_WRAPPER, read_sources(folder))
