# SPDX-License-Identifier: Apache-2.0
"""PBS: Torque, OpenPBS and PBS Pro. Source: HTCondor 23.9 libexec/blahp/pbs_submit.sh.

What a probe asks and reads follows qstat(1B) of Torque 6 and of PBS Pro 19; no such system could be tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from glideinwms_bosco.batch.model import SHORT_OPTION, BatchSystem, Finding, ResourceRequest
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
    count_of,
    seconds_of,
)

_FIELD = re.compile(r"\s+(\S+) = (.*)")


class Pbs(BatchSystem):
    """`-l nodes=NodeNumber/SMPGranularity:ppn=SMPGranularity`; with pbs_pro one chunk of SMPGranularity CPUs."""

    name: ClassVar[str] = "pbs"
    remote_commands: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "qdel")
    options: ClassVar[Mapping[str, str]] = {"qos": "-l qos={}"}
    own_jobs: ClassVar[tuple[str, ...]] = ("qstat", "-u", "{user}")
    # Job ID, user, queue, name, session, nodes, tasks, memory, time, state, elapsed time.
    own_job_line: ClassVar[re.Pattern[str]] = re.compile(r"(?P<id>\d+[^\s.]*)\S*(?: +\S+){8} +(?P<state>[A-Z]) +\S+")
    own_jobs_noise: ClassVar[re.Pattern[str]] = re.compile(r"[^\s:]+: *|.*Req'd.*|Job ID .*|[- ]+", re.IGNORECASE)
    ended_states: ClassVar[tuple[str, ...]] = ("C", "F", "X")
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

    def probe_questions(self, _user: str, _requests: Sequence[ResourceRequest]) -> tuple[Question, ...]:
        return (Question("server", ("qstat", "-B", "-f")), Question("queues", ("qstat", "-Q", "-f")))

    def probe_facts(self, answers: Mapping[str, Answer], _groups: Sequence[str]) -> BatchFacts:
        server = answer_of(answers, "server")
        fields = _fields(server.lines)
        if not server.ok or "server_state" not in fields:
            return BatchFacts(answers=False, trouble=server.first)
        default = fields.get("default_queue", "")
        found = blocks(answer_of(answers, "queues").lines, r"Queue:\s*(\S+)")
        queues = tuple(_queue(name, _fields(lines), default) for name, lines in found)
        return BatchFacts(
            version=fields.get("pbs_version", ""),
            queues=queues or None,
            # Torque's; PBS Pro writes `[u:PBS_GENERIC=100]`.
            max_queued=count_of(re.sub(r"^\[u:PBS_GENERIC=(\d+)\]$", r"\1", fields.get("max_queued", ""))),
        )

    def probe_job(self, request: ResourceRequest) -> JobPlan:
        where = ["-q", request.queue] if request.queue else []
        where += ["-A", request.project] if request.project else []
        where += ["-l", f"qos={request.qos}"] if request.qos else []
        extra = [word for arg in request.extra_args for word in arg.split()]
        return JobPlan(
            submit=("qsub", *extra, *where, "-N", JOB_NAME, "-l", f"walltime=00:{JOB_MINUTES:02d}:00", "-S", "/bin/sh",
                    "-j", "oe", "-o", "/dev/null"),
            id_pattern=r"^\([0-9][0-9]*\(\.[A-Za-z0-9._-]*\)\{0,1\}\)$",
            state=("qstat", "-f", JOB_ID),
            alive="job_state = [BEHQRSTUW]",
            cancel=("qdel", JOB_ID),
        )  # fmt: skip

    def probe_job_state(self, lines: Sequence[str]) -> JobState:
        fields = _fields(lines)
        # Torque says exit_status, PBS Pro Exit_status.
        code = fields.get("exit_status", fields.get("Exit_status", ""))
        return JobState(count_of(code), fields.get("comment", ""))


def _fields(lines: Sequence[str]) -> dict[str, str]:
    return {found.group(1): found.group(2) for found in map(_FIELD.fullmatch, lines) if found}


def _queue(name: str, fields: Mapping[str, str], default: str) -> Queue:
    enabled, started = fields.get("enabled", "True"), fields.get("started", "True")
    return Queue(
        name=name,
        accepts=enabled == started == "True",
        note=f"enabled = {enabled}, started = {started}",
        default=name == default,
        max_walltime_s=seconds_of(fields.get("resources_max.walltime", "")),
    )
