# SPDX-License-Identifier: Apache-2.0
"""PBS: Torque, OpenPBS and PBS Pro. Source: HTCondor 23.9 libexec/blahp/pbs_submit.sh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from glideinwms_bosco.batch.model import SHORT_OPTION, BatchSystem, Finding, ResourceRequest


class Pbs(BatchSystem):
    """`-l nodes=NodeNumber/SMPGranularity:ppn=SMPGranularity`; with pbs_pro one chunk of SMPGranularity CPUs."""

    name: ClassVar[str] = "pbs"
    remote_commands: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "qdel")
    options: ClassVar[Mapping[str, str]] = {"qos": "-l qos={}"}
    extra_arg: ClassVar[str] = SHORT_OPTION
    extra_arg_example: ClassVar[str] = "-l feature=ib"

    def _findings(self, request: ResourceRequest) -> Iterator[Finding]:
        if request.gpus:
            # pbs_submit.sh looks at the number of GPUs only when pbs_maui=yes.
            yield Finding(
                "gpus",
                "blahp asks PBS for GPUs only where batch.settings.pbs_maui is yes",
                "otherwise use extra_args, for example `-l ngpus=1`",
                "warning",
            )
