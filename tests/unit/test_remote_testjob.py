# SPDX-License-Identifier: Apache-2.0
"""The test job passes only when everything came back; each missing piece is a failure of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest

from glideinwms_bosco.remote.testjob import (
    JobState,
    TestPlan,
    apply_event,
    batch_id,
    judge,
    submit_description,
    untested_version,
    waiting_reason,
)
from tests.unit.site_text import changed_site

OUTPUT = b"node worker1\nuser pilot\nword abc\n"


def plan(folder: Path, **changes: Any) -> TestPlan:
    site = changed_site(folder, "cpus: 8\n", "cpus: 8\n    submit_attrs: {+remote_cerequirements: 'x == 1'}\n")
    return TestPlan(
        **{
            "site": site,
            "account": site.accounts[0],
            "entry": site.entries[0],
            "folder": folder,
            "word": "abc",
            "key_file": Path("/k"),
            **changes,
        }
    )


def ended(exit_code: Optional[int] = 0) -> JobState:
    job = JobState(0)
    apply_event(job, {"MyType": "JobTerminatedEvent", "TerminatedNormally": True, "ReturnValue": exit_code}, 5.0)
    return job


def test_submits_with_the_entry_s_own_resource_and_attributes(tmp_path: Path) -> None:
    text = submit_description(plan(tmp_path), Path("/x/test_job.sh"))
    assert text["grid_resource"] == "batch slurm --rgahp-key /k --rgahp-nopass pilot@login.example.org"
    assert text["+NodeNumber"] == "8"
    assert text["+remote_cerequirements"] == "x == 1"
    assert text["batch_queue"] == "normal"


def test_asks_for_ten_minutes_at_most(tmp_path: Path) -> None:
    assert submit_description(plan(tmp_path), Path("/x"))["batch_runtime"] == "600"


def test_passes_when_everything_came_back(tmp_path: Path) -> None:
    job = ended()
    judge(job, plan(tmp_path), OUTPUT, b"abc\n")
    assert (job.failure, job.node, job.user) == (None, "worker1", "pilot")


FAILURES = [
    (0, 3, OUTPUT, b"abc\n", "exit code 0, expected 3"),
    (3, 0, OUTPUT, b"abc\n", "exit code 3, expected 0"),
    (0, 0, b"", b"abc\n", "standard output did not come back"),
    (0, 0, OUTPUT.replace(b"abc", b"old"), b"abc\n", "standard output did not come back"),
    (0, 0, OUTPUT, None, "output file did not come back"),
    (0, 0, OUTPUT, b"old\n", "output file did not come back"),
    (0, 0, OUTPUT.replace(b"pilot", b"root"), b"abc\n", "ran as root, not as pilot"),
]


@pytest.mark.parametrize(("code", "expected", "output", "result", "words"), FAILURES)
def test_fails_when_something_is_missing(
    code: int, expected: int, output: bytes, result: Optional[bytes], words: str, tmp_path: Path
) -> None:
    job = ended(code)
    judge(job, plan(tmp_path, exit_code=expected), output, result)
    assert job.failure is not None
    assert words in job.failure


def test_killed_job_never_passes(tmp_path: Path) -> None:
    job = JobState(0)
    apply_event(job, {"MyType": "JobTerminatedEvent", "TerminatedNormally": False, "TerminatedBySignal": 9}, 1.0)
    judge(job, plan(tmp_path), OUTPUT, b"abc\n")
    assert job.failure == "did not end by itself"


def test_held_job_fails_with_the_gridmanager_s_reason(tmp_path: Path) -> None:
    job = JobState(0)
    apply_event(job, {"MyType": "JobHeldEvent", "HoldReason": "submission command failed"}, 1.0)
    judge(job, plan(tmp_path), OUTPUT, b"abc\n")
    assert job.failure == "held: submission command failed"


def test_job_through_an_older_bundle_is_told() -> None:
    """A gahp that runs since before a deploy keeps its version; the new one is then not proven by the test."""
    job = JobState(0, version="a" * 64)
    assert untested_version([job], "a" * 64) is None
    sentence = untested_version([job], "b" * 64)
    assert sentence is not None
    assert "bundle bbbbbbbbbbbb, deployed since, is untested" in sentence
    assert untested_version([JobState(0)], "b" * 64) is None
    assert untested_version([job], None) is None


def test_schedd_removes_jobs_of_a_test_that_was_killed(tmp_path: Path) -> None:
    assert submit_description(plan(tmp_path, timeout_s=60), Path("/x"))["periodic_remove"] == "time() - QDate > 660"


def test_events_of_other_kinds_change_nothing() -> None:
    job = JobState(0)
    assert apply_event(job, {"MyType": "FileTransferEvent"}, 1.0) is None
    assert job == JobState(0)


# Forms of GridJobId seen with HTCondor 23.9.
BATCH_IDS = [
    ("batch slurm login slurm/20261120/12", "slurm job 12"),
    ("batch slurm login slurm/20261120/12@cluster2", "slurm job 12@cluster2"),
    ("batch sge login sge/20261120093000/7", "sge job 7"),
    ("batch condor login condor/2//", "condor job 2"),
    ("something else", "something else"),
]


@pytest.mark.parametrize(("grid_job_id", "words"), BATCH_IDS)
def test_batch_id_is_what_the_remote_operator_knows(grid_job_id: str, words: str) -> None:
    assert batch_id(grid_job_id) == words


REASONS: list[tuple[dict[str, Any], str]] = [
    ({"HoldReason": "no queue"}, "no queue"),
    (
        {"GridResourceUnavailableReason": "Failed to start GAHP:\nlogin: Permission denied"},
        "Failed to start GAHP: login: Permission denied",
    ),
    ({"GridResourceUnavailableTime": 5}, "unavailable: it gives no reason"),
    ({"GridJobStatus": "IDLE", "GridJobId": "x"}, "says IDLE"),
    ({"GridJobId": "x"}, "no state of it"),
    ({}, "has not handed it"),
]


@pytest.mark.parametrize(("ad", "words"), REASONS)
def test_time_out_names_the_gridmanager_s_own_reason(ad: dict[str, Any], words: str) -> None:
    assert words in waiting_reason(ad, "")


def test_time_out_names_what_ssh_said_to_the_gridmanager() -> None:
    """The line is one of HTCondor 23.9's, where the job ad itself gave no reason."""
    log = (
        "11/20/26 11:23:10 [438] Error starting --rgahp-key GAHP: old\n"
        "11/20/26 11:23:21 [438] Error starting --rgahp-key GAHP: Agent pid 455 killed\\nAgent pid 466\\n"
        "pilot@login: Permission denied (publickey).\\nAgent pid 466 killed\\n\n"
        "11/20/26 11:23:21 [438] resource --rgahp-key is still down\n"
    )
    reason = waiting_reason({"GridResourceUnavailableTime": 5}, log)
    assert reason.endswith("unavailable: pilot@login: Permission denied (publickey).")
