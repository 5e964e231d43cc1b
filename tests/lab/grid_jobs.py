# SPDX-License-Identifier: Apache-2.0
"""Jobs that a test submits through the gridmanager and watches: nothing lost, nothing held, and why they wait."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from glideinwms_bosco.remote.testjob import gahp_error
from tests.lab.lab import Lab
from tests.lab.waiting import await_true

USER = "factory"
GRIDMANAGER_LOG = "/home/factory/condor/log/GridmanagerLog"
DONE_DEADLINE_S = 60.0
REASON_DEADLINE_S = 45.0
_SUBMIT = """\
universe = grid
grid_resource = {resource}
executable = /bin/sh
transfer_executable = false
arguments = "-c '{script}; echo job $(Process)'"
output = out.$(Process)
error = err.$(Process)
log = log
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
notification = never
queue {count}
"""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class GridJobs:
    """Jobs of one submission.

    Attributes:
        cluster: their number in the schedd.
        folder: at the factory; log and output.
        count: how many.
        log_start: size of the gridmanager's log when they were submitted.
    """

    lab: Lab
    cluster: str
    folder: str
    count: int
    log_start: int

    def reason(self) -> str:
        """What the gridmanager has last said about a remote side that it could not reach; as `remote test` reads it."""
        log = self.lab.read_file("factory", GRIDMANAGER_LOG)
        return gahp_error(log[self.log_start :]) or ""

    def await_reason(self, part: str) -> str:
        """Wait until the gridmanager says something while all jobs are idle; the line."""
        await_true(lambda: part in self.reason(), f"the gridmanager says {part!r}", REASON_DEADLINE_S)
        assert [status for status, _ in self._states()] == ["1"] * self.count
        return self.reason()

    def await_known_to_wait(self) -> None:
        """Wait until condor_q shows for each job that the remote side is down."""
        waiting = [("1", "true")] * self.count
        await_true(lambda: self._states() == waiting, "the jobs are idle and say that the remote side is down")

    def _states(self) -> list[tuple[str, ...]]:
        """(JobStatus, is the resource down) of each job in the queue; 1 is idle."""
        argv = ["condor_q", self.cluster, "-af", "JobStatus", "GridResourceUnavailableTime =!= undefined"]
        lines = self.lab.run("factory", argv, user=USER).stdout.splitlines()
        return [tuple(line.split()) for line in lines]

    def events(self, number: str) -> int:
        """How many events of a kind stand in the jobs' log.

        Source: HTCondor's manual, Job Event Log Codes: 001 runs, 005 ended, 009 removed, 012 held, 026 remote side is
        down, 027 accepted by the batch system.
        """
        log = self.lab.run("factory", ["cat", f"{self.folder}/log"]).stdout
        return sum(line.startswith(f"{number} (") for line in log.splitlines())

    def await_running(self) -> None:
        """Wait until all of them run."""
        await_true(lambda: self.events("001") == self.count, "all jobs run", DONE_DEADLINE_S)

    def await_accepted(self) -> None:
        """Wait until the remote batch system has all of them."""
        await_true(lambda: self.events("027") == self.count, "all jobs are with the batch system", DONE_DEADLINE_S)
        assert self.events("012") == 0, "a job was held"

    def await_done(self) -> None:
        """Wait until all have run to their end; none was held, aborted, or run twice."""
        await_true(lambda: self.events("005") == self.count, "all jobs have ended", DONE_DEADLINE_S)
        assert self.events("012") == 0, "a job was held"
        assert self.events("009") == 0, "a job was removed"
        for number in range(self.count):
            assert self.lab.read_file("factory", f"{self.folder}/out.{number}") == f"job {number}\n"
        await_true(lambda: not self._states(), "they have left the queue")

    def remove(self) -> None:
        """Take what is left of them out of the queue."""
        self.lab.run("factory", ["condor_rm", self.cluster], user=USER, check=False)


def submit(lab: Lab, resource: str, count: int, script: str = "true") -> GridJobs:
    """Submit jobs for a grid resource; each runs a shell script without quotes."""
    folder = f"/home/{USER}/jobs/grid{next(_numbers)}"
    lab.run("factory", ["install", "-d", "-o", USER, folder])
    lab.write_file("factory", f"{folder}/submit", _SUBMIT.format(resource=resource, count=count, script=script), USER)
    start = len(lab.run("factory", ["cat", GRIDMANAGER_LOG], check=False).stdout)
    said = lab.run("factory", ["sh", "-c", 'cd "$1" && condor_submit -terse submit', "sh", folder], user=USER).stdout
    return GridJobs(lab, said.partition(".")[0], folder, count, start)


def end_all_jobs(lab: Lab) -> None:
    """Have neither the factory's schedd nor Slurm know of any job, whoever left it."""

    def jobs() -> str:
        return lab.run("factory", ["condor_q", "-af", "ClusterId"], user=USER).stdout

    if jobs():
        lab.run("factory", ["condor_rm", "-all"], user=USER)
        lab.run("login", ["scancel", "-f", "-u", "pilot"])
        await_true(lambda: not jobs(), "no job in the schedd")
