# SPDX-License-Identifier: Apache-2.0
"""HTCondor as the remote batch system. Source: HTCondor 23.9 libexec/blahp/condor_submit.sh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from glideinwms_bosco.batch.model import BatchSystem, Finding, ResourceRequest, SubmitAttr


class Condor(BatchSystem):
    """`request_cpus = NodeNumber`; the queue is the name of a schedd (`schedd` or `schedd/collector`)."""

    name: ClassVar[str] = "condor"
    remote_commands: ClassVar[tuple[str, ...]] = ("condor_submit", "condor_q", "condor_rm", "condor_history")
    # blahp appends extra arguments to the remote submit file as one line.
    extra_arg: ClassVar[str] = r"[+]?[A-Za-z_][A-Za-z0-9_]*=[A-Za-z0-9_.:,/@%+-]+"
    extra_arg_example: ClassVar[str] = "+WantSmallNodes=True"

    def _findings(self, request: ResourceRequest) -> Iterator[Finding]:
        if request.nodes > 1 or request.whole_node:
            yield Finding("nodes", "blahp can ask HTCondor for CPUs of one machine, not for nodes", "use cpus alone")
        if request.project is not None:
            yield Finding(
                "project",
                "blahp does not pass a project to HTCondor",
                "use extra_args, for example `+ProjectName=...`, or remove it",
            )
        if len(request.extra_args) > 1:
            yield Finding(
                "extra_args", "blahp appends them to the submit file as one line, so there can be one only", "keep one"
            )

    def _size(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        if request.cpus is not None:
            yield SubmitAttr("+NodeNumber", str(request.cpus))
