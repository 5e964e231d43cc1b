# SPDX-License-Identifier: Apache-2.0
"""What our job wrapper does for the pilots of a site before they start: tunnel, CVMFS, container."""

from __future__ import annotations

from typing import Optional

from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.runtime import Container

RUNGS_BEFORE = ("native", "userns", "fusermount", "mountrepo")
"""Ways to /cvmfs that can be bound into a container; the others stand around the pilot or the payload themselves."""


def whole_pilot_image(site: SiteDescription) -> Optional[Container]:
    """The container that the whole pilot runs in."""
    container = site.runtime.container if site.runtime is not None else None
    return container if container is not None and container.mode == "pilot" else None


def needs_job_wrapper(site: SiteDescription) -> bool:
    """Tell whether the site's bundle starts pilots by the job wrapper: behind a tunnel, or in a container as a whole.

    blahp runs no job wrapper for HTCondor as batch system.
    """
    if site.external or site.batch.system == "condor":
        return False
    return site.network is not None or whole_pilot_image(site) is not None


def cvmfs_is_before(site: SiteDescription) -> bool:
    """Tell whether the job wrapper has a cvmfsexec of its own, so that a pilot in a container finds /cvmfs there."""
    if not needs_job_wrapper(site) or whole_pilot_image(site) is None or site.network is None:
        return False
    return site.network.cvmfsexec is not None and site.runtime is not None and site.runtime.cvmfs is not None


def wrapper_rungs(site: SiteDescription) -> tuple[str, ...]:
    """Ways to /cvmfs that the job wrapper tries; none where no container follows, as the pilot has its own then."""
    if not needs_job_wrapper(site) or whole_pilot_image(site) is None:
        return ()
    if site.runtime is None or site.runtime.cvmfs is None:
        return ()
    usable = RUNGS_BEFORE if cvmfs_is_before(site) else RUNGS_BEFORE[:1]
    return tuple(rung for rung in site.runtime.cvmfs.rungs or usable if rung in usable)


def pilot_rungs(site: SiteDescription) -> tuple[str, ...]:
    """Ways to /cvmfs that the pilot itself tries."""
    if site.runtime is None:
        return ()
    return ("native",) if cvmfs_is_before(site) else site.runtime.rungs()
