# SPDX-License-Identifier: Apache-2.0
"""The end-to-end test job: what is submitted, how its events are read, when it has passed. No I/O.

A test passes only when every job ended by itself with the expected exit code, ran as the account's user, and brought
its word back by standard output and by an output file. Anything else, a time-out above all, is a failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.batch import batch_system
from glideinwms_bosco.entry.submit import grid_resource, resource_request
from glideinwms_bosco.site.model import Account, Entry, SiteDescription

TEST_WALLTIME_S = 600
"""A test job asks for at most this long, so that it fits into gaps of the batch system's plan (s)."""
MAX_TEST_RUN_S = 300
"""Longest time a test job may be told to run (s); leaves half of its wall time for a slow file system."""
MAX_JOBS = 1000
MAX_TIMEOUT_S = 86400
ORPHAN_MARGIN_S = 600
"""How long after its time-out a job of a killed test is left to the schedd (s)."""
MAX_OUTPUT_BYTES = 4096
"""Most of a job's output that is read; three lines are expected."""
WORD_FILE = "test_word"
RESULT_FILE = "test_result"


@dataclass(frozen=True)
class TestPlan:
    """What to run.

    Attributes:
        folder: private folder of this test on the schedd's host.
        word: made for this test; must come back.
        timeout_s: when to give up (s).
        run_s: how long each job sleeps (s).
    """

    __test__ = False  # the name starts with Test; pytest must not collect it

    site: SiteDescription
    account: Account
    entry: Entry
    folder: Path
    word: str
    key_file: Optional[Path] = None
    timeout_s: int = 600
    jobs: int = 1
    exit_code: int = 0
    run_s: int = 0


def submit_description(plan: TestPlan, script: Path) -> dict[str, str]:
    """The submit file of the test, with the grid resource and submit attributes of the entry's pilots.

    Raises:
        BatchError, EntryError: as `entry.submit` does.
    """
    request = resource_request(plan.site, plan.entry)
    if request.walltime_s is None or request.walltime_s > TEST_WALLTIME_S:
        request = replace(request, walltime_s=TEST_WALLTIME_S)
    attrs = {attr.name: attr.value for attr in batch_system(plan.site.batch.system).submit_attrs(request)}
    attrs.update(plan.entry.submit_attrs)
    return {
        "universe": "grid",
        "grid_resource": grid_resource(plan.site, plan.account, plan.key_file),
        "executable": str(script),
        "arguments": f"{plan.exit_code} {plan.run_s}",
        "initialdir": str(plan.folder),
        "transfer_input_files": WORD_FILE,
        "transfer_output_files": RESULT_FILE,
        "transfer_output_remaps": f'"{RESULT_FILE} = result.$(Process)"',
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "output": "out.$(Process)",
        "error": "err.$(Process)",
        "log": str(plan.folder / "log"),
        "notification": "never",
        # Submit attributes of an entry may use it, as those of the NERSC entries do.
        "+GlideinEntryName": f'"{plan.entry.name}"',
        **attrs,
        # A test that is killed cannot remove its jobs: the schedd does, well after the test would have given up.
        "periodic_remove": f"time() - QDate > {plan.timeout_s + ORPHAN_MARGIN_S}",
    }


@dataclass
class JobState:
    """What is known of one job. Times are seconds since submission."""

    proc: int
    batch_id: Optional[str] = None
    started: bool = False
    exit_code: Optional[int] = None
    killed: bool = False
    failure: Optional[str] = None
    node: Optional[str] = None
    user: Optional[str] = None
    version: Optional[str] = None
    times_s: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it."""
        return self.failure is not None or self.killed or self.exit_code is not None


def batch_id(grid_job_id: str) -> str:
    """`batch slurm login slurm/20261120/12` -> `slurm job 12`. Unknown forms come back whole."""
    found = re.search(r"(\S+?)/(?:[0-9]*/)?([A-Za-z0-9_.@\[\]-]+)/*$", grid_job_id)
    return f"{found[1]} job {found[2]}" if found else grid_job_id


def apply_event(job: JobState, event: Mapping[str, Any], at_s: float) -> Optional[str]:
    """Take one job event into the state.

    Args:
        event: of HTCondor's job event log, with `MyType` and the event's attributes.
        at_s: when it was seen, seconds since submission.

    Returns:
        A sentence for the operator, or None when the event says nothing new.
    """
    kind = str(event.get("MyType", ""))
    if kind == "GridSubmitEvent":
        job.batch_id = batch_id(str(event.get("GridJobId", "")))
        job.times_s["accepted"] = at_s
        return f"accepted by the remote batch system as {job.batch_id}"
    if kind == "ExecuteEvent":
        job.started = True
        job.times_s["started"] = at_s
        return "running"
    if kind == "JobTerminatedEvent":
        job.times_s["ended"] = at_s
        if event.get("TerminatedNormally"):
            job.exit_code = int(event.get("ReturnValue", -1))
            return f"ended with exit code {job.exit_code}"
        job.killed = True
        return "was killed"
    if kind == "JobHeldEvent":
        job.failure = f"held: {event.get('HoldReason', 'no reason given')}"
        return job.failure
    if kind in ("JobAbortedEvent", "JobAbortEvent"):
        job.failure = f"removed: {event.get('Reason', 'no reason given')}"
        return job.failure
    if kind == "GridResourceDownEvent":
        return "the remote side cannot be reached at the moment"
    if kind == "GridResourceUpEvent":
        return "the remote side answers"
    return None


def judge(job: JobState, plan: TestPlan, output: bytes, result: Optional[bytes]) -> None:
    """Decide about a job that has ended: sets `node`, `user` and, if it did not pass, `failure`."""
    if job.failure is not None:
        return
    if job.killed or job.exit_code is None:
        job.failure = "did not end by itself"
        return
    said = dict(line.split(" ", 1) for line in output.decode("utf-8", "replace").splitlines() if " " in line)
    job.node, job.user, job.version = said.get("node"), said.get("user"), said.get("version")
    if job.exit_code != plan.exit_code:
        job.failure = f"ended with exit code {job.exit_code}, expected {plan.exit_code}"
    elif said.get("word") != plan.word:
        job.failure = "its standard output did not come back"
    elif result is None or result.decode("utf-8", "replace").strip() != plan.word:
        job.failure = "its output file did not come back"
    elif job.user != plan.account.user:
        job.failure = f"ran as {job.user}, not as {plan.account.user}"


_GAHP_ERROR = re.compile(r"Error starting .*?GAHP: (.*)")
# What remote_gahp's ssh-agent prints around ssh's own message.
_AGENT_NOISE = re.compile(r"Agent pid [0-9]+( killed)?")


def gahp_error(log: str) -> Optional[str]:
    """The last reason why no connection came up, from the text of a GridmanagerLog; None if it tells none.

    Source: seen with HTCondor 23.9 and 25.14, where the job ad often says only that the resource is down.
    """
    found = _GAHP_ERROR.findall(log)
    if not found:
        return None
    lines = (" ".join(_AGENT_NOISE.sub("", line).split()) for line in found[-1].split("\\n"))
    # remote_gahp tries again by itself and ssh then says the same twice.
    return " ".join(dict.fromkeys(line for line in lines if line)) or None


def untested_version(jobs: Iterable[JobState], deployed: Optional[str]) -> Optional[str]:
    """Say when jobs went through another bundle than the account has now: a running gahp keeps its version.

    Args:
        deployed: digest of the account's bundle; None when it is not one of ours.

    Returns:
        A sentence, or None when there is nothing to say. Batch systems that do not pass the environment on, such as
        Grid Engine and HTCondor, leave the version unknown.
    """
    used = {job.version for job in jobs if job.version is not None}
    if deployed is None or not used or used == {deployed}:
        return None
    names = ", ".join(sorted(version[:12] for version in used))
    return (
        f"the jobs went through bundle {names} of a running gahp; bundle {deployed[:12]}, deployed since, is untested"
    )


def waiting_reason(ad: Mapping[str, Any], log: str) -> str:
    """Why a job is not done, in the gridmanager's words where it has any.

    Args:
        ad: the job's ClassAd from the schedd.
        log: what the gridmanager has logged since the submission; may be empty.
    """
    for name in ("HoldReason", "GridResourceUnavailableReason"):
        if ad.get(name):
            return " ".join(str(ad[name]).split())
    if ad.get("GridResourceUnavailableTime"):
        reason = gahp_error(log) or "it gives no reason in its GridmanagerLog"
        return f"the gridmanager finds the grid resource unavailable: {reason}"
    if ad.get("GridJobStatus"):
        return f"the remote batch system says {ad['GridJobStatus']}"
    if ad.get("GridJobId"):
        return "handed to the remote side, no state of it has come back"
    return "the gridmanager has not handed it to the remote side"
