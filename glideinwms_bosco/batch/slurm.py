# SPDX-License-Identifier: Apache-2.0
"""Slurm. Source: HTCondor 23.9 libexec/blahp/slurm_submit.sh; what a probe reads was printed by Slurm 24.11."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Optional

from glideinwms_bosco.batch.model import LONG_OPTION, BatchSystem, ResourceRequest
from glideinwms_bosco.batch.probing import (
    JOB_ID,
    JOB_MINUTES,
    JOB_NAME,
    NO_FOLDER,
    NO_INPUT,
    NO_OUTPUT,
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

# Source: scontrol(1), "JOB STATE CODES" of squeue(1): those in which a job has not come to its end.
_ALIVE = "JobState=(PENDING|CONFIGURING|RUNNING|SUSPENDED|COMPLETING|REQUEU|RESIZING|SIGNALING|STAGE_OUT|STOPPED|RESV)"
_SETTING = re.compile(r"(\w+)\s+= (.*)")


class Slurm(BatchSystem):
    """`-n NodeNumber --ntasks-per-node SMPGranularity`; whole nodes add `-N HostNumber --exclusive`."""

    name: ClassVar[str] = "slurm"
    remote_commands: ClassVar[tuple[str, ...]] = ("sbatch", "squeue", "scancel", "scontrol")
    runtime_unit_s: ClassVar[int] = 60
    options: ClassVar[Mapping[str, str]] = {
        "constraint": "--constraint={}",
        "reservation": "--reservation={}",
        "qos": "--qos={}",
    }
    own_jobs: ClassVar[tuple[str, ...]] = ("squeue", "-h", "-u", "{user}", "-o", "%i %t")
    own_job_line: ClassVar[re.Pattern[str]] = re.compile(r"(?P<id>\d\S*) [A-Z]+")
    extra_arg: ClassVar[str] = LONG_OPTION
    extra_arg_example: ClassVar[str] = "--constraint=haswell"

    def probe_queue_names(self, queue: str) -> tuple[str, ...]:
        partitions, cluster = _place(queue)
        return tuple(f"{name}@{cluster}" if cluster else name for name in partitions.split(","))

    def probe_questions(self, user: str, requests: Sequence[ResourceRequest]) -> tuple[Question, ...]:
        clusters = dict.fromkeys(_place(request.queue)[1] for request in requests) or {"": None}
        return (
            Question("config", ("scontrol", "show", "config")),
            # -a: also those hidden from the account, so that "not yours" is told from "not there".
            *(Question(f"queues{c}", ("scontrol", "-a", *_cluster(c), "show", "partition")) for c in clusters),
            Question(
                "projects",
                ("sacctmgr", "-n", "-P", "show", "associations", f"user={user}", "format=Account,MaxSubmitJobs"),
            ),
            Question("accounting", ("sacct", "-n", "-X", "-P", "-S", "now", "-o", "JobID")),
        )

    def probe_facts(self, answers: Mapping[str, Answer], groups: Sequence[str]) -> BatchFacts:
        config = answer_of(answers, "config")
        settings = {f.group(1): f.group(2) for f in map(_SETTING.fullmatch, config.lines) if f}
        if "SLURM_VERSION" not in settings:
            return BatchFacts(answers=False, trouble=config.first)
        rows = [line.split("|") for line in answer_of(answers, "projects").lines if "|" in line]
        enforced = "associations" in settings.get("AccountingStorageEnforce", "")
        limits = [limit for row in rows if (limit := count_of(row[1])) is not None]
        asked = [(key[len("queues") :], answer) for key, answer in answers.items() if key.startswith("queues")]
        queues = tuple(queue for cluster, answer in asked for queue in _queues(answer, cluster, groups))
        # The status alone says it: the answer is empty when the account has no jobs.
        accounting = answer_of(answers, "accounting")
        return BatchFacts(
            version=settings["SLURM_VERSION"],
            queues=queues or None,
            projects=tuple(dict.fromkeys(row[0] for row in rows)) if enforced and rows else None,
            max_queued=min(limits, default=None),
            accounting=None if accounting.status is None else accounting.ok,
            keeps_ended_s=seconds_of(settings.get("MinJobAge", "").partition(" ")[0]),
        )

    def probe_job(self, request: ResourceRequest) -> JobPlan:
        partition, cluster = _place(request.queue)
        where = [f"--partition={partition}"] if partition else []
        where += [f"--account={request.project}"] if request.project else []
        where += [
            self.options[field].format(value)
            for field in self.options
            if (value := getattr(request, field)) is not None
        ]
        at = _cluster(cluster)
        return JobPlan(
            submit=("sbatch", "--parsable", *at, *request.extra_args, *where, "--ntasks=1", f"--time={JOB_MINUTES}",
                    f"--job-name={JOB_NAME}", "--output=/dev/null", "--error=/dev/null", "--chdir=/"),
            id_pattern=r"^\([0-9][0-9]*\)\(;.*\)\{0,1\}$",
            state=("scontrol", *at, "show", "job", JOB_ID),
            alive=_ALIVE,
            cancel=("scancel", *at, JOB_ID),
            decided=f"ExitCode=({NO_FOLDER}|{NO_INPUT}|{NO_OUTPUT}):0",
        )  # fmt: skip

    def probe_job_state(self, lines: Sequence[str]) -> JobState:
        text = " ".join(lines)
        code = re.search(r"\bJobState=(?:COMPLETED|FAILED)\b.*\sExitCode=(\d{1,3}):0\b", text)
        reason = re.search(r"\bReason=(\w+)", text)
        return JobState(int(code.group(1)) if code else None, reason.group(1) if reason else "")


def _place(queue: Optional[str]) -> tuple[str, str]:
    """blahp's `partition@cluster` as (partition, cluster)."""
    partition, _, cluster = (queue or "").partition("@")
    return partition, cluster


def _cluster(name: str) -> tuple[str, ...]:
    return ("-M", name) if name else ()


def _queues(answer: Answer, cluster: str, groups: Sequence[str]) -> Iterator[Queue]:
    for name, lines in blocks(answer.lines, r"PartitionName=(\S+)"):
        fields = dict(word.split("=", 1) for line in lines for word in line.split() if "=" in word)
        state = fields.get("State", "")
        allowed = fields.get("AllowGroups", "ALL")
        projects = fields.get("AllowAccounts", "ALL")
        yield Queue(
            name=f"{name}@{cluster}" if cluster else name,
            accepts=state == "UP",
            note=state,
            default=fields.get("Default") == "YES",
            usable=allowed == "ALL" or not set(groups).isdisjoint(allowed.split(",")),
            max_walltime_s=seconds_of(fields.get("MaxTime", "")),
            projects=None if projects == "ALL" else tuple(projects.split(",")),
        )
