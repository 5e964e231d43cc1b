# SPDX-License-Identifier: Apache-2.0
"""The status scripts of the sge, pbs and lsf bundles.

Fake commands stand for the batch systems. Grid Engine's output is as 8.1.9 writes it; for PBS and LSF no real one
could be had: the output follows their manuals.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.bundle_login import LoginNode

QACCT = """==============================================================
qname        batch
hostname     login3
owner        pilot
jobnumber    12
taskid       undefined
qsub_time    Fri Nov 20 10:00:00 2026
start_time   Fri Nov 20 10:00:01 2026
end_time     Fri Nov 20 10:00:09 2026
failed       {failed}
exit_status  {code}
ru_wallclock 8
"""
UNKNOWN_SGE = "error: job id 12 not found\n"


def qstat_xml(*jobs: tuple[int, str]) -> str:
    """`qstat -xml`: running jobs in queue_info, waiting ones in job_info."""
    rows = "".join(
        f'    <job_list state="x">\n      <JB_job_number>{number}</JB_job_number>\n      <JAT_prio>0.5</JAT_prio>\n'
        f"      <JB_name>bl_x &lt;state&gt;r</JB_name>\n      <state>{state}</state>\n    </job_list>\n"
        for number, state in jobs
    )
    return f"<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"x\">\n  <queue_info>\n{rows}  </queue_info>\n</job_info>\n"


@pytest.fixture()
def sge(tmp_path: Path) -> LoginNode:
    node = LoginNode(tmp_path, "sge")
    node.fake("qstat", qstat_xml((12, "r")))
    node.fake("qacct", UNKNOWN_SGE, 1)
    return node


def status(login: LoginNode, system: str, *jobs: str) -> str:
    """The answer to blahpd's call."""
    jobs = jobs or (f"{system}/20261120/12",)
    code, out = login.run("bash", f"libexec/{system}_status.sh", "-w", *jobs)
    assert code == 0
    return out


def ad(job_status: int, code: str = "", job: int = 12) -> str:
    end = f" ExitCode={code};" if code else ""
    return f'0[BatchJobId="{job}"; JobStatus={job_status};{end} ]\n'


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ("qw", ad(1)),
        ("hqw", ad(5)),
        ("r", ad(2)),
        ("t", ad(2)),
        ("Rr", ad(2)),
        ("hr", ad(2)),
        ("S", ad(2)),
        ("dr", ad(2)),
        ("Eqw", ad(4, "255")),
    ],
)
def test_sge_states(sge: LoginNode, state: str, answer: str) -> None:
    sge.fake("qstat", qstat_xml((11, "r"), (12, state), (120, "qw")))
    assert status(sge, "sge") == answer


def test_sge_job_that_left_the_queue_runs_until_the_accounting_knows_it(sge: LoginNode) -> None:
    """HTCondor's own script says "completed, 0" in these seconds (seen: 3 became 0)."""
    sge.fake("qstat", qstat_xml())
    assert status(sge, "sge") == ad(2)
    sge.grow_old("gone-sge-12", 290)
    assert status(sge, "sge") == ad(2)
    sge.fake("qacct", QACCT.format(failed="0", code="3"))
    assert status(sge, "sge") == ad(4, "3")
    assert not (sge.state / "gone-sge-12").exists()


def test_sge_job_that_nobody_knows_fails_at_the_deadline(sge: LoginNode) -> None:
    sge.fake("qstat", qstat_xml())
    status(sge, "sge")
    sge.grow_old("gone-sge-12", 301)
    assert status(sge, "sge") == ad(4, "255")


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (QACCT.format(failed="0", code="0"), "0"),
        (QACCT.format(failed="0", code="137"), "137"),
        (QACCT.format(failed="100 : assumedly after job", code="0"), "255"),
        (QACCT.format(failed="26  : opening input/output file", code="0"), "255"),
        (QACCT.format(failed="0", code="99") + QACCT.format(failed="0", code="4"), "4"),
    ],
)
def test_sge_accounting(sge: LoginNode, record: str, code: str) -> None:
    sge.fake("qstat", qstat_xml())
    sge.fake("qacct", record)
    assert status(sge, "sge") == ad(4, code)


def test_sge_many_jobs_cost_one_question(sge: LoginNode) -> None:
    sge.fake("qstat", qstat_xml((12, "r"), (13, "qw")))
    assert status(sge, "sge", "sge/1/12", "sge/1/13.default") == ad(2) + ad(1, job=13)
    assert len(sge.calls("qstat")) == 1


def test_sge_job_keeps_its_state_while_the_qmaster_is_away(sge: LoginNode) -> None:
    status(sge, "sge")
    sge.fake("qstat", "error: commlib error: got select error (Connection refused)\n", 1)
    sge.grow_old("sge", 3600)
    assert status(sge, "sge") == ad(2)
    assert sge.calls("qacct") == []


def test_sge_without_any_answer_is_an_error_and_not_the_end(sge: LoginNode) -> None:
    sge.fake("qstat", "error: commlib error\n", 1)
    assert status(sge, "sge").startswith("1ERROR")
    sge.fake("qstat", "", 0)
    sge.grow_old("sge.failed", 60)
    assert status(sge, "sge").startswith("1ERROR"), "an empty answer is no empty queue"


def test_sge_works_without_a_place_for_its_list(sge: LoginNode) -> None:
    shutil.rmtree(sge.home / "bosco/log")
    (sge.home / "bosco/log").touch()
    assert status(sge, "sge") == ad(2)
    sge.fake("qstat", qstat_xml())
    assert status(sge, "sge").startswith("1ERROR"), "without a mark the deadline cannot be kept"


@pytest.mark.parametrize("system", ["sge", "pbs", "lsf"])
@pytest.mark.parametrize("job", ["x", "", "12;id", "$(id)", "12 13", "-1x"])
def test_odd_job_id_is_an_error(tmp_path: Path, system: str, job: str) -> None:
    assert status(LoginNode(tmp_path, system), system, f"{system}/1/{job}") == "1ERROR: not a job id\n"


def qstat_f(state: str, exit_status: str = "") -> str:
    """`qstat -f` of Torque; PBS Pro writes Exit_status."""
    more = f"    {exit_status}\n" if exit_status else ""
    return f"Job Id: 12.server\n    Job_Name = bl_x\n    Job_Owner = pilot@login\n    job_state = {state}\n{more}"


@pytest.mark.parametrize(
    ("out", "code", "answer"),
    [
        (qstat_f("Q"), 0, ad(1)),
        (qstat_f("R"), 0, ad(2)),
        (qstat_f("E"), 0, ad(2)),
        (qstat_f("S"), 0, ad(2)),
        (qstat_f("H"), 0, ad(5)),
        (qstat_f("C", "exit_status = 0"), 0, ad(4, "0")),
        (qstat_f("C", "exit_status = 3"), 0, ad(4, "3")),
        (qstat_f("F", "Exit_status = 3"), 0, ad(4, "3")),
        (qstat_f("C", "exit_status = 271"), 0, ad(4, "143")),
        (qstat_f("C", "exit_status = -11"), 0, ad(4, "255")),
        (qstat_f("F"), 0, ad(4, "255")),
        ("qstat: Unknown Job Id Error 12.server\n", 153, ad(2)),
        ("qstat: Unknown Job Id 12.server\n", 153, ad(2)),
        ("pbs_iff: cannot connect to server\n", 1, "1ERROR: qstat failed with exit code 1\n"),
        ("", 0, "1ERROR: qstat gave no known job_state\n"),
    ],
)
def test_pbs_answers(tmp_path: Path, out: str, code: int, answer: str) -> None:
    login = LoginNode(tmp_path, "pbs")
    login.fake("qstat", out, code)
    assert status(login, "pbs", "pbs/20261120/12.server") == answer


def test_pbs_pro_is_asked_for_the_history_of_a_finished_job(tmp_path: Path) -> None:
    login = LoginNode(tmp_path, "pbs")
    login.fake("qstat", "qstat: 12.server Job has finished, use -x or -H to obtain historical job information\n", 35)
    assert status(login, "pbs") == ad(2)
    assert login.calls("qstat") == ["-f 12", "-x -f 12"]


def test_pbs_job_that_nobody_knows_fails_at_the_deadline(tmp_path: Path) -> None:
    login = LoginNode(tmp_path, "pbs")
    login.fake("qstat", "qstat: Unknown Job Id Error 12.server\n", 153)
    status(login, "pbs")
    login.grow_old("gone-pbs-12", 301)
    assert status(login, "pbs") == ad(4, "255")


def bjobs(state: str, *events: str) -> str:
    """`bjobs -UF`: one line for the job, one per event."""
    head = f"Job <12>, Job Name <x>, User <pilot>, Project <default>, Status <{state}>, Queue <normal>, "
    return "\n".join(
        [head + "Command <echo Status <DONE>>", "Fri Nov 20 10:00:00: Submitted from host <login>", *events, ""]
    )


@pytest.mark.parametrize(
    ("out", "code", "answer"),
    [
        (bjobs("PEND"), 0, ad(1)),
        (bjobs("RUN"), 0, ad(2)),
        (bjobs("USUSP"), 0, ad(5)),
        (bjobs("UNKWN"), 0, ad(2)),
        (bjobs("DONE", "Fri Nov 20 10:01:00: Done successfully. The CPU time used is 0.1 seconds."), 0, ad(4, "0")),
        (bjobs("EXIT", "Fri Nov 20 10:01:00: Exited with exit code 3. The CPU time used is 1 s."), 0, ad(4, "3")),
        (bjobs("EXIT", "Fri Nov 20 10:01:00: Exited by signal 9. The CPU time used is 1 s."), 0, ad(4, "137")),
        (bjobs("EXIT", "Fri Nov 20 10:01:00: Exited; job has been forced to exit."), 0, ad(4, "255")),
        ("Job <12> is not found\n", 255, ad(2)),
        ("Failed in an LSF library call: Master LIM is down\n", 255, "1ERROR: bjobs failed with exit code 255\n"),
        ("", 0, "1ERROR: bjobs gave no known status\n"),
    ],
)
def test_lsf_answers(tmp_path: Path, out: str, code: int, answer: str) -> None:
    login = LoginNode(tmp_path, "lsf")
    login.fake("bjobs", out, code)
    assert status(login, "lsf") == answer


def test_lsf_job_that_nobody_knows_fails_at_the_deadline(tmp_path: Path) -> None:
    login = LoginNode(tmp_path, "lsf")
    login.fake("bjobs", "Job <12> is not found\n", 255)
    status(login, "lsf")
    login.grow_old("gone-lsf-12", 301)
    assert status(login, "lsf") == ad(4, "255")
