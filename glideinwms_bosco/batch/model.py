# SPDX-License-Identifier: Apache-2.0
"""What every batch adapter takes and gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Optional

from glideinwms_bosco.batch.probing import Answer, BatchFacts, JobPlan, JobState, Question
from glideinwms_bosco.errors import BatchError


@dataclass(frozen=True)
class ResourceRequest:
    """What one pilot job asks for. cpus, memory (MB, 2^20 bytes) and gpus count per node; wall time in seconds."""

    cpus: Optional[int] = None
    memory_mb: Optional[int] = None
    walltime_s: Optional[int] = None
    nodes: int = 1
    gpus: int = 0
    whole_node: bool = False
    queue: Optional[str] = None
    project: Optional[str] = None
    constraint: Optional[str] = None
    reservation: Optional[str] = None
    qos: Optional[str] = None
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubmitAttr:
    """A line of the submit file: `name = value`; names with `+` take ClassAd expressions."""

    name: str
    value: str


@dataclass(frozen=True)
class Finding:
    """Something a batch system cannot do as asked. `field` is the site file's name for it."""

    field: str
    message: str
    hint: str
    severity: str = "error"


class BatchSystem:
    """Adapter of one batch system; subclasses state how it differs from the common mapping.

    The common mapping fits slurm, pbs and lsf: NodeNumber is the number of tasks over all nodes, SMPGranularity the
    tasks on one node. Source: HTCondor 23.9 libexec/blahp/{slurm,pbs,lsf}_submit.sh and blahpd's table of attributes.
    `request_cpus` reaches none of them.
    """

    name: ClassVar[str]
    remote_commands: ClassVar[tuple[str, ...]]
    """Commands that must exist on the login host."""
    runtime_unit_s: ClassVar[int] = 1
    """blahp divides the wall time by this and drops the rest; 59 s of minutes would become 0, no limit at all."""
    options: ClassVar[Mapping[str, str]] = {}
    """constraint, reservation and qos as an option of the submit command; what is missing cannot be asked for."""
    own_jobs: ClassVar[tuple[str, ...]]
    """Command that lists the jobs of `{user}` that have not ended."""
    own_job_line: ClassVar[re.Pattern[str]]
    """A line of its output that stands for a job, whole: `id`, and `state` where the command shows ended jobs too."""
    own_jobs_noise: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    """Other lines that it prints."""
    ended_states: ClassVar[tuple[str, ...]] = ()
    extra_arg: ClassVar[str]
    """Regular expression one extra argument must match."""
    extra_arg_example: ClassVar[str]
    needs_shared_home: ClassVar[bool] = True
    """Whether a job finds what blahp has prepared only if the login node's home is there on the worker too."""

    status_needs_python: ClassVar[bool] = True
    """Whether HTCondor's status script for it is written in Python."""

    def probe_queue_names(self, queue: str) -> tuple[str, ...]:
        """The queues that a request's `queue` names, as `BatchFacts` does; those of another server are left out."""
        return tuple(name.partition("@")[0] for name in queue.split(","))

    def probe_questions(self, user: str, requests: Sequence[ResourceRequest]) -> tuple[Question, ...]:
        """What to ask on the login node, as this account and for these requests."""
        raise NotImplementedError

    def probe_facts(self, answers: Mapping[str, Answer], groups: Sequence[str]) -> BatchFacts:
        """What the answers to `probe_questions` say; never raises for what they hold.

        Args:
            answers: by the key of their question.
            groups: of the account.
        """
        raise NotImplementedError

    def probe_job(self, request: ResourceRequest) -> JobPlan:
        """A job of one CPU and some minutes, put where the request says."""
        raise NotImplementedError

    def probe_job_state(self, lines: Sequence[str]) -> JobState:
        """What the last answer of `JobPlan.state` says of the job's end, or of what it waits for."""
        raise NotImplementedError

    def findings(self, request: ResourceRequest) -> tuple[Finding, ...]:
        """Everything of the request that this batch system cannot express."""
        return (*self._common_findings(request), *self._findings(request))

    def submit_attrs(self, request: ResourceRequest) -> tuple[SubmitAttr, ...]:
        """Map a request to submit attributes that blahp really reads, in a fixed order.

        Raises:
            BatchError: the request has a finding of severity error.
        """
        for finding in self.findings(request):
            if finding.severity == "error":
                raise BatchError(f"{finding.field}: {finding.message}", finding.hint)
        return (*self._size(request), *self._limits(request), *self._where(request))

    def own_jobs_command(self, user: str, bin_path: Optional[str], settings: Mapping[str, str]) -> tuple[str, ...]:
        """The argv that lists the account's own jobs on its login host.

        Args:
            user: the account's user name.
            bin_path: directory of the batch commands; None: the login shell finds them.
            settings: the site's further keys of blah.config, for batch systems that need them.
        """
        del settings
        name, *rest = (word.format(user=user) for word in self.own_jobs)
        return (f"{bin_path}/{name}" if bin_path else name, *rest)

    def parse_own_jobs(self, status: int, text: str) -> tuple[str, ...]:
        """Ids of the jobs that have not ended, in the order of the batch system.

        Args:
            status: exit status of the command.
            text: what it printed, stdout and stderr.

        Raises:
            BatchError: the batch system gave no answer, or one that is not understood.
        """
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        wrong = [line for line in lines if not self._is_known(line)]
        if wrong or (status != 0 and not lines):
            said = wrong[0][:120] if wrong else f"exit status {status}"
            raise BatchError(f"{self.own_jobs[0]} does not list the jobs: {said}", "look at the batch system there")
        found = (self.own_job_line.fullmatch(line) for line in lines)
        return tuple(job["id"] for job in found if job and job.groupdict().get("state") not in self.ended_states)

    def _is_known(self, line: str) -> bool:
        return bool(self.own_job_line.fullmatch(line) or self.own_jobs_noise.fullmatch(line))

    def _common_findings(self, request: ResourceRequest) -> Iterator[Finding]:
        for arg in request.extra_args:
            if not re.fullmatch(self.extra_arg, arg):
                hint = f"for example {self.extra_arg_example}"
                yield Finding("extra_args", f"{arg!r} is not an option of {self.name}'s submit command", hint)
        for field, _ in _choices(request):
            if field not in self.options:
                hint = "use extra_args if the site's submit command has an option for it"
                yield Finding(field, f"{self.name} has no option for it that fits every site", hint)
        if request.nodes > 1 and request.cpus is None:
            yield Finding("nodes", "more than one node needs cpus (per node)", "set cpus")
        if request.whole_node and request.cpus is None:
            yield Finding("whole_node", "whole nodes need cpus (those of one node)", "set cpus")

    def _findings(self, _request: ResourceRequest) -> Iterator[Finding]:
        yield from ()

    def _size(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        if request.cpus is None:
            return
        if request.whole_node:
            yield SubmitAttr("+WholeNodes", "True")
            yield SubmitAttr("+HostNumber", str(request.nodes))
            yield SubmitAttr("+HostSMPSize", str(request.cpus))
        else:
            yield SubmitAttr("+NodeNumber", str(request.cpus * request.nodes))
        yield SubmitAttr("+SMPGranularity", str(request.cpus))

    def _limits(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        if request.memory_mb is not None:
            yield SubmitAttr("request_memory", str(request.memory_mb))
        if request.gpus:
            yield SubmitAttr("request_gpus", str(request.gpus))
        if request.walltime_s is not None:
            units = -(-request.walltime_s // self.runtime_unit_s)
            yield SubmitAttr("batch_runtime", str(units * self.runtime_unit_s))

    def _where(self, request: ResourceRequest) -> Iterator[SubmitAttr]:
        if request.queue is not None:
            yield SubmitAttr("batch_queue", request.queue)
        if request.project is not None:
            yield SubmitAttr("batch_project", request.project)
        args = [self.options[field].format(value) for field, value in _choices(request) if field in self.options]
        args += request.extra_args
        if args:
            yield SubmitAttr("batch_extra_submit_args", " ".join(args))


def _choices(request: ResourceRequest) -> Iterator[tuple[str, str]]:
    """The named choices that a request makes, in a fixed order."""
    for field in ("constraint", "reservation", "qos"):
        value = getattr(request, field)
        if value is not None:
            yield field, value


# No quote, `$`, `;`, `*` or backslash: the value is echoed unquoted into the batch script.
_VALUE = r"[A-Za-z0-9_.:,/@%+=\[\]-]+"
LONG_OPTION = rf"--[A-Za-z][A-Za-z0-9-]*(={_VALUE})?"
SHORT_OPTION = rf"-[A-Za-z]+( {_VALUE})?"
