# SPDX-License-Identifier: Apache-2.0
"""Grid Engine. Source: HTCondor 23.9 libexec/blahp/sge_submit.sh; tried with Grid Engine 8.1.9."""

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
    count_of,
    seconds_of,
)

_VERSION = re.compile(r"(\S*GE\S* .*)")


class Sge(BatchSystem):
    """`-pe $sge_pe_policy NodeNumber`, where the parallel environment decides how CPUs spread over nodes."""

    name: ClassVar[str] = "sge"
    remote_commands: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "qdel", "qacct")
    options: ClassVar[Mapping[str, str]] = {"reservation": "-ar {}"}
    own_jobs: ClassVar[tuple[str, ...]] = ("qstat", "-u", "{user}")
    own_job_line: ClassVar[re.Pattern[str]] = re.compile(r"(?P<id>\d+) +[\d.]+ +\S+ +\S+ +[A-Za-z]+ +.*")
    own_jobs_noise: ClassVar[re.Pattern[str]] = re.compile(r"job-ID .*|-+")
    extra_arg: ClassVar[str] = SHORT_OPTION
    extra_arg_example: ClassVar[str] = "-l mem_free=4G"
    status_needs_python: ClassVar[bool] = False

    def own_jobs_command(self, user: str, bin_path: Optional[str], settings: Mapping[str, str]) -> tuple[str, ...]:
        """As of the other batch systems; a login shell need not know which Grid Engine is meant."""
        variables = [
            f"{name}={settings[key]}"
            for name, key in (("SGE_ROOT", "sge_rootpath"), ("SGE_CELL", "sge_cellname"))
            if "$" not in settings.get(key, "$")
        ]
        return ("env", *variables, *super().own_jobs_command(user, bin_path, settings))

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

    def probe_questions(self, user: str, _requests: Sequence[ResourceRequest]) -> tuple[Question, ...]:
        return (
            Question("version", ("qstat", "-help")),
            Question("queues", ("qconf", "-sq", "*")),
            Question("summary", ("qstat", "-g", "c")),
            Question("usable", ("qselect", "-U", user)),
            Question("config", ("qconf", "-sconf")),
            Question("xml", ("perl", "-MXML::Simple", "-e", "1")),
        )

    def probe_facts(self, answers: Mapping[str, Answer], _groups: Sequence[str]) -> BatchFacts:
        config = answer_of(answers, "config")
        if not config.ok:
            return BatchFacts(answers=False, trouble=config.first)
        settings = dict(line.split(None, 1) for line in config.lines if len(line.split(None, 1)) > 1)
        version = _VERSION.match(answer_of(answers, "version").first)
        # sge_helper reads qstat and qacct with this module, which is no part of Perl.
        has_xml = answer_of(answers, "xml").status in (0, None)
        return BatchFacts(
            version=version.group(1) if version else "",
            queues=tuple(_queues(answers)) or None,
            # 0 stands for no limit.
            max_queued=count_of(settings.get("max_u_jobs", "")) or None,
            accounting="accounting=true" in settings.get("reporting_params", ""),
            lacks=() if has_xml else ("the Perl module XML::Simple",),
        )

    def probe_job(self, request: ResourceRequest) -> JobPlan:
        where = ["-q", request.queue] if request.queue else []
        where += ["-A", request.project] if request.project else []
        where += ["-ar", request.reservation] if request.reservation else []
        extra = [word for arg in request.extra_args for word in arg.split()]
        return JobPlan(
            submit=("qsub", "-terse", *extra, *where, "-N", JOB_NAME, "-l", f"h_rt={JOB_MINUTES * 60}", "-S", "/bin/sh",
                    "-j", "y", "-o", "/dev/null", "-wd", "/"),
            id_pattern=r"^\([0-9][0-9]*\)$",
            state=("qstat", "-j", JOB_ID),
            alive="^job_number:",
            cancel=("qdel", JOB_ID),
        )  # fmt: skip

    def probe_job_state(self, _lines: Sequence[str]) -> JobState:
        # The exit code stands only in qacct, some seconds after the end.
        return JobState()


def _queues(answers: Mapping[str, Answer]) -> Iterator[Queue]:
    usable = answer_of(answers, "usable")
    names = {line.partition("@")[0] for line in usable.lines} if usable.ok else None
    # CLUSTER QUEUE CQLOAD USED RES AVAIL TOTAL aoACDS cdsuE: slots; the last are those of instances that are off.
    slots = {
        words[0]: (int(words[-3]), int(words[-1]))
        for line in answer_of(answers, "summary").lines
        if len(words := line.split()) >= 7 and all(count_of(word) is not None for word in words[-5:])
    }
    for name, lines in blocks(answer_of(answers, "queues").lines, r"qname\s+(\S+)"):
        fields = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) > 1)
        total, off = slots.get(name, (1, 0))
        yield Queue(
            name=name,
            accepts=total > off,
            note=f"{off} of {total} slots are off",
            usable=None if names is None else name in names,
            max_walltime_s=seconds_of(fields.get("h_rt", "").strip()),
        )
