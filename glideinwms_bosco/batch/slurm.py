# SPDX-License-Identifier: Apache-2.0
"""Slurm. Source: HTCondor 23.9 libexec/blahp/slurm_submit.sh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from glideinwms_bosco.batch.model import LONG_OPTION, BatchSystem, ResourceRequest, SubmitAttr

_MINUTE_S = 60


class Slurm(BatchSystem):
    """`-n NodeNumber --ntasks-per-node SMPGranularity`; whole nodes add `-N HostNumber --exclusive`."""

    name: ClassVar[str] = "slurm"
    remote_commands: ClassVar[tuple[str, ...]] = ("sbatch", "squeue", "scancel", "scontrol")
    extra_arg: ClassVar[str] = LONG_OPTION
    extra_arg_example: ClassVar[str] = "--constraint=haswell"

    def _limits(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        if request.walltime_s is not None:
            # blahp divides by 60 and drops the rest; 59 s would become `-t 0`, which means no limit.
            minutes = -(-request.walltime_s // _MINUTE_S)
            request = replace(request, walltime_s=minutes * _MINUTE_S)
        return super()._limits(request)
