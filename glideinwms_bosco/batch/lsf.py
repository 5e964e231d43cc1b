# SPDX-License-Identifier: Apache-2.0
"""LSF. Source: HTCondor 23.9 libexec/blahp/lsf_submit.sh.

What a probe asks and reads follows lsid(1), bqueues(1) and bjobs(1) of LSF 10.1; no such system could be tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Optional

from glideinwms_bosco.batch.model import SHORT_OPTION, BatchSystem, Finding, ResourceRequest, SubmitAttr
from glideinwms_bosco.batch.probing import (
    JOB_ID,
    JOB_MINUTES,
    JOB_NAME,
    Answer,
    BatchFacts,
    JobPlan,
    JobState,
    Question,
    Queue,
    answer_of,
    blocks,
)

_VERSION = re.compile(r"(.*\bLSF\b[^,]*)")
_STATUS = re.compile(r"\b(Open|Closed)(?:_\w+)?:(Active|Inact)\w*")
_RUN_LIMIT = re.compile(r"\s*(\d{1,9})(?:\.\d+)? min\b")


class Lsf(BatchSystem):
    """`-n NodeNumber -R span[ptile=SMPGranularity]`; whole nodes take HostSMPSize and `-x`."""

    name: ClassVar[str] = "lsf"
    remote_commands: ClassVar[tuple[str, ...]] = ("bsub", "bjobs", "bkill", "lsid")
    runtime_unit_s: ClassVar[int] = 60
    options: ClassVar[Mapping[str, str]] = {"reservation": "-U {}", "qos": "-sla {}"}
    own_jobs: ClassVar[tuple[str, ...]] = ("bjobs", "-w", "-u", "{user}")
    own_job_line: ClassVar[re.Pattern[str]] = re.compile(r"(?P<id>\d+) +\S+ +(?P<state>[A-Z]+) +.*")
    own_jobs_noise: ClassVar[re.Pattern[str]] = re.compile(r"JOBID +USER +STAT.*|No unfinished job found.*")
    ended_states: ClassVar[tuple[str, ...]] = ("DONE", "EXIT")
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

    def probe_questions(self, user: str, _requests: Sequence[ResourceRequest]) -> tuple[Question, ...]:
        return (
            Question("version", ("lsid",)),
            Question("queues", ("bqueues", "-l")),
            Question("usable", ("bqueues", "-w", "-u", user)),
        )

    def probe_facts(self, answers: Mapping[str, Answer], _groups: Sequence[str]) -> BatchFacts:
        version, usable = answer_of(answers, "version"), answer_of(answers, "usable")
        if not version.ok:
            return BatchFacts(answers=False, trouble=version.first)
        # The first line holds the titles.
        names = {line.split()[0] for line in usable.lines[1:] if line.split()} if usable.ok else None
        found = blocks(answer_of(answers, "queues").lines, r"QUEUE:\s*(\S+)")
        said = _VERSION.match(version.first)
        return BatchFacts(
            version=said.group(1).strip() if said else version.first,
            queues=tuple(_queue(name, lines, names) for name, lines in found) or None,
        )

    def probe_job(self, request: ResourceRequest) -> JobPlan:
        where = ["-q", request.queue] if request.queue else []
        where += ["-P", request.project] if request.project else []
        where += ["-U", request.reservation] if request.reservation else []
        where += ["-sla", request.qos] if request.qos else []
        extra = [word for arg in request.extra_args for word in arg.split()]
        return JobPlan(
            submit=("bsub", *extra, *where, "-J", JOB_NAME, "-W", str(JOB_MINUTES), "-o", "/dev/null", "-cwd", "/"),
            id_pattern=r"^Job <\([0-9][0-9]*\)>.*",
            state=("bjobs", "-w", JOB_ID),
            alive=" (PEND|PROV|PSUSP|RUN|USUSP|SSUSP|WAIT|UNKWN) ",
            cancel=("bkill", JOB_ID),
        )

    def probe_job_state(self, lines: Sequence[str]) -> JobState:
        # bjobs tells that a job ended well, but no code: EXIT stands for any other.
        return JobState(0 if any(" DONE " in line for line in lines) else None)


def _queue(name: str, lines: Sequence[str], usable: Optional[set[str]]) -> Queue:
    text = "\n".join(lines)
    status = _STATUS.search(text)
    limit: Optional[int] = None
    for title, value in zip(lines, lines[1:]):
        found = _RUN_LIMIT.match(value) if title.split() == ["RUNLIMIT"] else None
        limit = int(found.group(1)) * 60 if found else limit
    return Queue(
        name=name,
        accepts=status is None or status.groups() == ("Open", "Active"),
        note=status.group(0) if status else "",
        default="default queue" in text,
        usable=None if usable is None else name in usable,
        max_walltime_s=limit,
    )
