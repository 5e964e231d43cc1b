# SPDX-License-Identifier: Apache-2.0
"""HTCondor as the remote batch system. Source: HTCondor 23.9 libexec/blahp/condor_submit.sh."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from glideinwms_bosco.batch.model import BatchSystem, Finding, ResourceRequest, SubmitAttr
from glideinwms_bosco.batch.probing import (
    JOB_ID,
    SCRIPT_DIR,
    Answer,
    BatchFacts,
    JobPlan,
    JobState,
    Question,
    Queue,
    answer_of,
    count_of,
)

_VERSION = re.compile(r"\$CondorVersion: (\S+)")


class Condor(BatchSystem):
    """`request_cpus = NodeNumber`; the queue is the name of a schedd (`schedd` or `schedd/collector`)."""

    name: ClassVar[str] = "condor"
    remote_commands: ClassVar[tuple[str, ...]] = ("condor_submit", "condor_q", "condor_rm", "condor_history")
    # blahp appends extra arguments to the remote submit file as one line.
    own_jobs: ClassVar[tuple[str, ...]] = ("condor_q", "{user}", "-af", "ClusterId", "ProcId", "JobStatus")
    own_job_line: ClassVar[re.Pattern[str]] = re.compile(r"(?P<id>\d+ \d+) (?P<state>\d+)")
    # Removed and completed: blahp leaves them in the queue for half an hour.
    ended_states: ClassVar[tuple[str, ...]] = ("3", "4")
    extra_arg: ClassVar[str] = r"[+]?[A-Za-z_][A-Za-z0-9_]*=[A-Za-z0-9_.:,/@%+-]+"
    extra_arg_example: ClassVar[str] = "+WantSmallNodes=True"
    # condor_submit.sh lets HTCondor move all files: should_transfer_files = yes.
    needs_shared_home: ClassVar[bool] = False
    status_needs_python: ClassVar[bool] = False

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

    def probe_queue_names(self, queue: str) -> tuple[str, ...]:
        # Schedds of another pool are not among those of this one.
        return () if "/" in queue else (queue,)

    def probe_questions(self, _user: str, _requests: Sequence[ResourceRequest]) -> tuple[Question, ...]:
        return (
            Question("version", ("condor_version",)),
            Question("queue", ("condor_q", "-totals")),
            Question("schedds", ("condor_status", "-schedd", "-af", "Name")),
            Question("limit", ("condor_config_val", "MAX_JOBS_PER_OWNER")),
            Question("accounting", ("condor_history", "-limit", "1", "-af", "ClusterId")),
        )

    def probe_facts(self, answers: Mapping[str, Answer], _groups: Sequence[str]) -> BatchFacts:
        queue, schedds = answer_of(answers, "queue"), answer_of(answers, "schedds")
        if not queue.ok:
            return BatchFacts(answers=False, trouble=queue.first)
        version = _VERSION.match(answer_of(answers, "version").first)
        accounting = answer_of(answers, "accounting")
        names = [line.strip() for line in schedds.lines if line.strip()]
        return BatchFacts(
            version=version.group(1) if version else "",
            queues=tuple(Queue(name) for name in names) if schedds.ok and names else None,
            max_queued=count_of(answer_of(answers, "limit").first),
            accounting=None if accounting.status is None else accounting.ok,
        )

    def probe_job(self, request: ResourceRequest) -> JobPlan:
        schedd, _, collector = (request.queue or "").partition("/")
        at = (*(("-pool", collector) if collector else ()), *(("-name", schedd) if schedd else ()))
        return JobPlan(
            submit=("condor_submit", *at, "-terse", "-"),
            id_pattern=r"^\([0-9][0-9]*\.[0-9][0-9]*\) - .*",
            state=("condor_q", *at, JOB_ID, "-af", "JobStatus", "ExitCode", "HoldReason"),
            # Idle, running, being removed, transferring, suspended. Held is an end too: nobody would release it.
            alive="^[12367] ",
            cancel=("condor_rm", *at, JOB_ID),
            text=(
                "universe = vanilla",
                f"executable = {SCRIPT_DIR}/job",
                "should_transfer_files = yes",
                "when_to_transfer_output = on_exit",
                'transfer_output_files = ""',
                "request_cpus = 1",
                *request.extra_args,
                "queue",
            ),
        )

    def probe_job_state(self, lines: Sequence[str]) -> JobState:
        status, _, rest = (lines[0] if lines else "").partition(" ")
        code, _, reason = rest.partition(" ")
        return JobState(count_of(code) if status == "4" else None, reason if status == "5" else "")
