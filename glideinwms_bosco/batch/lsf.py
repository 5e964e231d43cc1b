# SPDX-License-Identifier: Apache-2.0
"""LSF. Source: HTCondor 23.9 libexec/blahp/lsf_submit.sh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from glideinwms_bosco.batch.model import SHORT_OPTION, BatchSystem, Finding, ResourceRequest, SubmitAttr


class Lsf(BatchSystem):
    """`-n NodeNumber -R span[ptile=SMPGranularity]`; whole nodes take HostSMPSize and `-x`."""

    name: ClassVar[str] = "lsf"
    remote_commands: ClassVar[tuple[str, ...]] = ("bsub", "bjobs", "bkill", "lsid")
    runtime_unit_s: ClassVar[int] = 60
    options: ClassVar[Mapping[str, str]] = {"reservation": "-U {}", "qos": "-sla {}"}
    extra_arg: ClassVar[str] = SHORT_OPTION
    extra_arg_example: ClassVar[str] = "-M 4000"

    def _findings(self, request: ResourceRequest) -> Iterator[Finding]:
        if request.memory_mb is not None:
            yield Finding(
                "memory_mb",
                "blahp does not pass memory to LSF; it is only published",
                "ask for it by extra_args, for example `-M 4000`",
                "warning",
            )

    def _limits(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        return (attr for attr in super()._limits(request) if attr.name != "request_memory")
