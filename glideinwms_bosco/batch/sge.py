# SPDX-License-Identifier: Apache-2.0
"""Grid Engine. Source: HTCondor 23.9 libexec/blahp/sge_submit.sh; tried with Grid Engine 8.1.9."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from glideinwms_bosco.batch.model import SHORT_OPTION, BatchSystem, Finding, ResourceRequest, SubmitAttr


class Sge(BatchSystem):
    """`-pe $sge_pe_policy NodeNumber`, where the parallel environment decides how CPUs spread over nodes."""

    name: ClassVar[str] = "sge"
    remote_commands: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "qdel", "qacct")
    options: ClassVar[Mapping[str, str]] = {"reservation": "-ar {}"}
    extra_arg: ClassVar[str] = SHORT_OPTION
    extra_arg_example: ClassVar[str] = "-l mem_free=4G"

    def _findings(self, request: ResourceRequest) -> Iterator[Finding]:
        if request.nodes > 1 or request.whole_node:
            yield Finding(
                "nodes",
                "blahp can ask Grid Engine for slots, not for nodes",
                "choose the parallel environment by batch.settings.sge_pe_policy",
            )
        if request.memory_mb is not None:
            yield Finding(
                "memory_mb",
                "blahp does not pass memory to Grid Engine; it is only published",
                "ask for it by extra_args, for example `-l mem_free=4G`",
                "warning",
            )
        if request.project is not None:
            yield Finding(
                "project",
                "becomes -A (accounting string), not -P (project)",
                "use extra_args, for example `-P myproject`",
                "warning",
            )

    def _size(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        if request.cpus is not None:
            yield SubmitAttr("+NodeNumber", str(request.cpus))

    def _where(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        for attr in super()._where(request):
            if attr.name == "batch_extra_submit_args":
                # sge_submit.sh, unlike the others, puts the text into the job script as it is: without the mark of a
                # directive it would be run as a command.
                attr = SubmitAttr(attr.name, f"#$ {attr.value}")
            yield attr

    def _limits(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        return (attr for attr in super()._limits(request) if attr.name != "request_memory")
