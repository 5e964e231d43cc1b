# SPDX-License-Identifier: Apache-2.0
"""squeue, sacct and pass-through of the slurm bundle, with output as Slurm 24.11 writes it.

Arguments are those of HTCondor's slurm_status.py (23.9.6); it takes exit code 1 of squeue for "the job is over" and
an answer of sacct that it cannot use for success.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Optional

import pytest

from tests.unit.bundle_login import SHELLS, LoginNode, mode

SQUEUE = "libexec/slurm/squeue"
SACCT = "libexec/slurm/sacct"
HEADER = "JOBID STATE\n"
COLUMNS = "JobID,UserCPU,SystemCPU,MaxRSS,ExitCode,AllocCPUS"
ROW_HEADER = "JobID|UserCPU|SystemCPU|MaxRSS|ExitCode|AllocCPUS\n"
NO_CTLD = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
NO_JOB = "slurm_load_jobs error: Invalid job id specified\n"
NO_DB = "Slurm accounting storage is disabled\n"

pytestmark = pytest.mark.parametrize("shell", SHELLS)


@pytest.fixture()
def login(tmp_path: Path) -> LoginNode:
    node = LoginNode(tmp_path, "slurm")
    node.fake("squeue", "7 RUNNING\n8 PENDING\n")
    node.fake("sacct", NO_DB, 1)
    node.fake("scontrol", "slurm_load_jobs error: Invalid job id specified\n", 1)
    return node


def ask(login: LoginNode, shell: str, job: str, *more: str) -> tuple[int, str]:
    return login.run(shell, SQUEUE, "-o", "%i %T", *more, "-j", job)


def show_job(state: str, code: str, *, name: str = "bl_abc.sh", job: str = "7") -> str:
    """`scontrol -o show job`, Slurm 24.11.5, shortened behind Command."""
    return (
        f"JobId={job} JobName={name} UserId=pilot(2001) GroupId=pilot(2001) MCS_label=N/A Priority=1 Nice=0 "
        f"Account=(null) QOS=(null) JobState={state} Reason=None Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 "
        f"Reboot=0 ExitCode={code} RunTime=00:00:05 TimeLimit=UNLIMITED Command=/shared/pilot/x ExitCode=0:0\n"
    )


def end(login: LoginNode, shell: str, job: str = "7") -> str:
    """The answer to the call that slurm_status.py makes."""
    code, out = login.run(shell, SACCT, "-j", job, "--noconvert", "-P", "--format", COLUMNS)
    assert code == 0
    assert out.startswith(ROW_HEADER)
    return out[len(ROW_HEADER) :]


def test_whole_queue_is_answered_empty_and_costs_nothing(login: LoginNode, shell: str) -> None:
    assert login.run(shell, SQUEUE, "-o", "%i %T", "-u", "pilot") == (0, HEADER)
    assert login.calls("squeue") == []


def test_many_jobs_cost_one_question(login: LoginNode, shell: str) -> None:
    for _ in range(3):
        assert ask(login, shell, "7") == (0, f"{HEADER}7 RUNNING\n")
        assert ask(login, shell, "8") == (0, f"{HEADER}8 PENDING\n")
    assert len(login.calls("squeue")) == 1
    assert "-u " in login.calls("squeue")[0]


def test_list_is_private(login: LoginNode, shell: str) -> None:
    ask(login, shell, "7")
    assert mode(login.state) == 0o700
    assert [mode(place) for place in login.state.iterdir()] == [0o600]
    assert [place.name for place in login.state.iterdir()] == ["slurm"]


def test_old_list_is_asked_again(login: LoginNode, shell: str) -> None:
    ask(login, shell, "7")
    login.fake("squeue", "7 COMPLETING\n")
    login.grow_old("slurm", 6)
    assert ask(login, shell, "7") == (0, f"{HEADER}7 COMPLETING\n")


@pytest.mark.parametrize("stamp", ["99999999999", "-1", "abc", "", "9" * 30, "1; id"])
def test_list_with_an_impossible_time_is_asked_again(login: LoginNode, shell: str, stamp: str) -> None:
    login.state.mkdir()
    (login.state / "slurm").write_text(f"BOSCO-QUEUE {stamp}\n7 PENDING\n")
    assert ask(login, shell, "7") == (0, f"{HEADER}7 RUNNING\n")


def test_job_that_is_not_in_the_list_is_asked_for_alone(login: LoginNode, shell: str) -> None:
    ask(login, shell, "7")
    login.fake("squeue", "9 PENDING\n")
    assert ask(login, shell, "9") == (0, f"{HEADER}9 PENDING\n")
    assert login.calls("squeue")[-1].endswith("-j 9")


@pytest.mark.parametrize(("out", "code"), [("", 0), (NO_JOB, 1)])
def test_job_that_slurm_does_not_know_has_left_the_queue(login: LoginNode, shell: str, out: str, code: int) -> None:
    ask(login, shell, "7")
    login.fake("squeue", out, code)
    assert ask(login, shell, "9") == (0, HEADER)


def test_running_job_stays_running_while_slurmctld_is_away(login: LoginNode, shell: str) -> None:
    ask(login, shell, "7")
    login.fake("squeue", NO_CTLD, 1)
    login.grow_old("slurm", 3600)
    for _ in range(2):
        assert ask(login, shell, "7") == (0, f"{HEADER}7 RUNNING\n")
    assert len(login.calls("squeue")) == 2, "a failed question is not repeated at once"


def test_no_answer_and_no_earlier_state_is_an_error_and_not_the_end(login: LoginNode, shell: str) -> None:
    login.fake("squeue", NO_CTLD, 1)
    assert ask(login, shell, "7") == (2, "")


def test_last_state_does_not_stand_for_ever(login: LoginNode, shell: str) -> None:
    ask(login, shell, "7")
    login.fake("squeue", NO_CTLD, 1)
    login.grow_old("slurm", 86400 + 60)
    assert ask(login, shell, "7")[0] == 2


def test_recovers_after_an_outage(login: LoginNode, shell: str) -> None:
    login.fake("squeue", NO_CTLD, 1)
    ask(login, shell, "7")
    login.fake("squeue", "7 RUNNING\n")
    login.grow_old("slurm.failed", 31)
    assert ask(login, shell, "7") == (0, f"{HEADER}7 RUNNING\n")
    assert not (login.state / "slurm.failed").exists()


def test_without_a_place_for_the_list_each_job_is_asked_for_alone(login: LoginNode, shell: str) -> None:
    shutil.rmtree(login.home / "bosco/log")
    (login.home / "bosco/log").touch()
    login.fake("squeue", "7 RUNNING\n")
    assert ask(login, shell, "7") == (0, f"{HEADER}7 RUNNING\n")
    assert login.calls("squeue")[-1].endswith("-j 7")


def test_lock_of_a_killed_process_is_broken_and_a_young_one_is_waited_for(login: LoginNode, shell: str) -> None:
    login.state.mkdir()
    lock = login.state / "slurm.lock"
    lock.symlink_to(str(int(time.time()) - 91))
    assert ask(login, shell, "7") == (0, f"{HEADER}7 RUNNING\n")
    assert not lock.is_symlink()
    (login.state / "slurm").unlink()
    lock.symlink_to(str(int(time.time()) + 5 - 5))
    assert ask(login, shell, "7") == (0, f"{HEADER}7 RUNNING\n"), "after the wait the job is asked for alone"
    assert len(login.calls("sleep")) == 15
    assert lock.is_symlink()


def test_while_another_process_asks_a_list_of_some_seconds_will_do(login: LoginNode, shell: str) -> None:
    ask(login, shell, "7")
    login.grow_old("slurm", 20)
    (login.state / "slurm.lock").symlink_to(str(int(time.time())))
    assert ask(login, shell, "7") == (0, f"{HEADER}7 RUNNING\n")
    assert len(login.calls("squeue")) == 1
    assert login.calls("sleep") == []


def test_many_callers_at_once_get_the_same_answer(login: LoginNode, shell: str) -> None:
    (login.bin / "sleep").unlink()
    command = login.command(shell, SQUEUE, "-o", "%i %T", "-j", "7")
    running = [subprocess.Popen(command, env=login.environment(), stdout=subprocess.PIPE) for _ in range(12)]
    answers = {process.communicate(timeout=60)[0].decode() for process in running}
    assert answers == {f"{HEADER}7 RUNNING\n"}
    assert len(login.calls("squeue")) == 1
    assert [place.name for place in login.state.iterdir()] == ["slurm"]


@pytest.mark.parametrize("job", ["7;id", "$(id)", "7 8", "../x", "-h", "7\n8", "*"])
def test_odd_job_id_reaches_nothing(login: LoginNode, shell: str, job: str) -> None:
    assert ask(login, shell, job) == (2, "")
    assert login.run(shell, SACCT, "-j", job, "--noconvert", "-P", "--format", COLUMNS) == (2, "")
    assert login.calls("squeue") == login.calls("sacct") == login.calls("scontrol") == []


@pytest.mark.parametrize("cluster", ["../x", "-x", "a;b", "a b"])
def test_odd_cluster_name_reaches_nothing(login: LoginNode, shell: str, cluster: str) -> None:
    assert ask(login, shell, "7", "-M", cluster) == (2, "")
    assert login.run(shell, SACCT, "-M", cluster, "-j", "7", "-P", "--format", COLUMNS) == (2, "")
    assert login.calls("squeue") == login.calls("sacct") == []


def test_each_cluster_has_its_own_list(login: LoginNode, shell: str) -> None:
    login.fake("squeue", "CLUSTER: big\n7 RUNNING\n")
    assert ask(login, shell, "7", "-M", "big") == (0, f"{HEADER}7 RUNNING\n")
    assert (login.state / "slurm-big").exists()
    assert "-M big" in login.calls("squeue")[0]


@pytest.mark.parametrize(
    ("slurm", "said"),
    [("REQUEUED", "PENDING"), ("STAGE_OUT", "RUNNING"), ("OUT_OF_MEMORY", "FAILED"), ("SUSPENDED", "SUSPENDED")],
)
def test_states_that_slurm_status_does_not_know_are_translated(
    login: LoginNode, shell: str, slurm: str, said: str
) -> None:
    login.fake("squeue", f"7 {slurm}\nsqueue: warning: odd line\n7x RUNNING\n")
    assert ask(login, shell, "7") == (0, f"{HEADER}7 {said}\n")


@pytest.mark.parametrize("arguments", [(), ("--version",), ("-o", "%i", "-j", "7"), ("-h", "-o", "%i %T", "-j", "7")])
def test_any_other_call_goes_to_the_sites_squeue(login: LoginNode, shell: str, arguments: tuple[str, ...]) -> None:
    """slurm_ping.sh calls squeue without arguments: that must really ask Slurm."""
    login.fake("squeue", "real\n", 3)
    assert login.run(shell, SQUEUE, *arguments) == (3, "real\n")
    assert login.calls("squeue") == [" ".join(arguments)]


@pytest.mark.parametrize(
    ("state", "code", "reported"),
    [
        ("COMPLETED", "0:0", "0:0"),
        ("FAILED", "3:0", "3:0"),
        ("TIMEOUT", "0:0", "255:0"),
        ("TIMEOUT", "0:15", "143:15"),
        ("CANCELLED", "0:0", "255:0"),
        ("CANCELLED", "255:0", "255:0"),
        ("NODE_FAIL", "0:0", "255:0"),
        ("OUT_OF_MEMORY", "0:125", "253:125"),
        ("PREEMPTED", "0:0", "255:0"),
        ("BOOT_FAIL", "0:0", "255:0"),
        ("DEADLINE", "0:0", "255:0"),
        ("COMPLETED", "0:9", "137:9"),
        ("FAILED", "1:9", "1:9"),
        ("NEW_STATE", "0:0", "255:0"),
    ],
)
def test_only_a_completed_job_reports_0(login: LoginNode, shell: str, state: str, code: str, reported: str) -> None:
    """Both sources of the code, scontrol and the accounting, are read with the same eyes."""
    login.fake("scontrol", show_job(state, code))
    assert end(login, shell) == f"7||||{reported}|\n"
    login.fake("scontrol", NO_JOB, 1)
    login.fake("sacct", f"{COLUMNS.replace(',', '|')}|State\n7|00:00.010|00:00.020||{code}|4|{state}\n")
    assert end(login, shell) == f"7|00:00.010|00:00.020||{reported}|4\n"


def test_rows_of_job_steps_stay_as_they_are(login: LoginNode, shell: str) -> None:
    login.fake(
        "sacct",
        "JobID|UserCPU|SystemCPU|MaxRSS|ExitCode|AllocCPUS|State\n"
        "7|00:01|00:02||0:0|4|CANCELLED by 2001\n7.batch|00:01|00:02|2048|0:15|4|CANCELLED\n",
    )
    assert end(login, shell) == "7|00:01|00:02||255:0|4\n7.batch|00:01|00:02|2048|0:15|4\n"
    assert login.calls("scontrol") == []


@pytest.mark.parametrize("rows", ["", "7|||||4|RUNNING\n", "7||||0:0|4|PENDING\n", "8||||0:0|4|COMPLETED\n"])
def test_accounting_that_does_not_know_the_end_yet_is_not_believed(login: LoginNode, shell: str, rows: str) -> None:
    login.fake("sacct", f"JobID|UserCPU|SystemCPU|MaxRSS|ExitCode|AllocCPUS|State\n{rows}")
    login.fake("scontrol", show_job("FAILED", "3:0"))
    assert end(login, shell) == "7||||3:0|\n"


def test_job_that_nobody_knows_has_failed(login: LoginNode, shell: str) -> None:
    assert end(login, shell) == "7||||255:0|\n"
    assert login.calls("sleep") == []


def test_slurm_that_does_not_answer_is_asked_again_before_the_job_counts_as_failed(
    login: LoginNode, shell: str
) -> None:
    login.fake("scontrol", NO_CTLD, 1)
    assert end(login, shell) == "7||||255:0|\n"
    assert len(login.calls("scontrol")) == 3
    assert login.calls("sleep") == ["2", "2"]


def test_words_of_the_user_in_the_job_are_not_taken_for_slurms(login: LoginNode, shell: str) -> None:
    login.fake("scontrol", show_job("FAILED", "9:0", name="x JobState=COMPLETED ExitCode=0:0 y"))
    assert end(login, shell) == "7||||9:0|\n"


def test_derived_exit_code_is_not_the_exit_code(login: LoginNode, shell: str) -> None:
    text = show_job("FAILED", "3:0").replace(" ExitCode=3:0", " DerivedExitCode=0:0 ExitCode=3:0")
    login.fake("scontrol", text)
    assert end(login, shell) == "7||||3:0|\n"


def test_cluster_reaches_sacct_and_scontrol(login: LoginNode, shell: str) -> None:
    login.run(shell, SACCT, "-M", "big", "-j", "7", "-P", "--format", COLUMNS)
    assert all(call.startswith("-M big ") for name in ("sacct", "scontrol") for call in login.calls(name))


def test_other_calls_of_sacct_go_to_the_sites(login: LoginNode, shell: str) -> None:
    assert login.run(shell, SACCT, "--version") == (1, NO_DB)


@pytest.mark.parametrize("command", ["sbatch", "scancel", "scontrol"])
def test_passthrough_runs_the_sites_command_of_its_name(login: LoginNode, shell: str, command: str) -> None:
    login.fake(command, "said\n", 4)
    assert login.run(shell, f"libexec/slurm/{command}", "a b", "*") == (4, "said\n")
    assert login.calls(command)[-1] == "a b *"


def test_bin_path_wins_over_path(login: LoginNode, shell: str, tmp_path: Path) -> None:
    login.configure(f"bin_path={tmp_path}/opt/bin")
    login.fake("sbatch", "", 5)
    assert login.run(shell, "libexec/slurm/sbatch")[0] == 127, "bin_path is not a hint"
    login.fake("sbatch", "opt\n", 0, tmp_path / "opt/bin")
    (login.bin / "sbatch").unlink()
    assert login.run(shell, "libexec/slurm/sbatch") == (0, "opt\n")


@pytest.mark.parametrize("through", [None, "link"])
def test_shim_never_calls_itself(login: LoginNode, shell: str, tmp_path: Path, through: Optional[str]) -> None:
    """The shim directory on PATH, also under another name, must not make a loop."""
    own = login.version / "libexec/slurm"
    if through is not None:
        (tmp_path / through).symlink_to(own)
        own = tmp_path / through
    (login.bin / "sbatch").unlink(missing_ok=True)
    environment = {**login.environment(), "PATH": f"{own}:{own}/:{os.defpath}"}
    done = subprocess.run(
        login.command(shell, "libexec/slurm/sbatch"), env=environment, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 127
    assert b"set bin_path" in done.stderr
