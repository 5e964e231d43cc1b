# SPDX-License-Identifier: Apache-2.0
"""One adapter per batch system. Adapters run nothing: they map a request to what HTCondor's blahp reads."""

from __future__ import annotations

from glideinwms_bosco.batch.condor import Condor
from glideinwms_bosco.batch.lsf import Lsf
from glideinwms_bosco.batch.model import BatchSystem, Finding, ResourceRequest, SubmitAttr
from glideinwms_bosco.batch.pbs import Pbs
from glideinwms_bosco.batch.sge import Sge
from glideinwms_bosco.batch.slurm import Slurm
from glideinwms_bosco.errors import BatchError

__all__ = ["BATCH_SYSTEMS", "BatchSystem", "Finding", "ResourceRequest", "SubmitAttr", "batch_system"]

BATCH_SYSTEMS: dict[str, BatchSystem] = {system.name: system for system in (Slurm(), Pbs(), Lsf(), Sge(), Condor())}


def batch_system(name: str) -> BatchSystem:
    """Find the adapter of a batch system.

    Raises:
        BatchError: there is none of that name.
    """
    try:
        return BATCH_SYSTEMS[name]
    except KeyError:
        raise BatchError(f"batch system {name!r} is not known", f"one of: {', '.join(BATCH_SYSTEMS)}") from None
