# SPDX-License-Identifier: Apache-2.0
"""What an account is to serve, as far as a probe can compare it with what is there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.batch import BatchSystem, ResourceRequest
from glideinwms_bosco.entry.submit import resource_request
from glideinwms_bosco.site.model import Account, SiteDescription


@dataclass(frozen=True)
class Platform:
    """What a bundle runs on: architecture as `uname -m` says, oldest glibc."""

    architecture: str
    glibc_min: str


@dataclass(frozen=True)
class Demand:
    """What one entry asks of the batch system; `glideins` is its limit of pilots, if it has one."""

    entry: str
    request: ResourceRequest
    glideins: Optional[int] = None


@dataclass(frozen=True)
class Wishes:
    """What the account is to serve.

    Attributes:
        system: adapter of the batch system.
        demands: of the entries that submit as this account.
        platforms: those there is a bundle for; empty: not looked at.
        job_token: what the test job has to bring back; None when none was submitted.
    """

    system: BatchSystem
    demands: tuple[Demand, ...] = ()
    platforms: tuple[Platform, ...] = ()
    job_token: Optional[str] = None


def demands_of(site: SiteDescription, account: Account) -> tuple[Demand, ...]:
    """What the entries that submit as this account ask for; those that are switched off ask for nothing."""
    return tuple(
        Demand(entry.name, resource_request(site, entry), entry.per_entry.glideins)
        for entry in site.entries
        if entry.enabled and account in site.accounts_of(entry)
    )
