# SPDX-License-Identifier: Apache-2.0
"""What batch systems say about the account's own jobs: only an answer that is understood counts as one.

The texts of slurm, sge and condor were printed by Slurm 24.11, Grid Engine 8.1.9 and HTCondor 23.9; those of pbs and
lsf follow qstat(1B) and bjobs(1).
"""

from __future__ import annotations

import pytest

from glideinwms_bosco.batch import batch_system
from glideinwms_bosco.errors import BatchError

SGE = """\
job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
      7 0.55500 bl_36ae3d  pilot        r     11/20/2026 14:10:11 batch@login-sge                    1
     12 0.00000 bl_36ae3e  pilot        qw    11/20/2026 14:10:12                                    1
"""
PBS = """

server.site:
                                                                                  Req'd       Req'd       Elap
Job ID                  Username    Queue    Jobname          SessID  NDS   TSK   Memory      Time    S   Time
----------------------- ----------- -------- ---------------- ------ ----- ------ --------- --------- - ---------
1042.server.site        pilot       batch    bl_36ae3d         21345     1      8       --   02:00:00 R  00:01:02
1043.server.site        pilot       batch    bl_36ae3e           --      1      8       --   02:00:00 Q       --
1044.server.site        pilot       batch    bl_36ae3f         21346     1      8       --   02:00:00 C  00:01:02
"""
LSF = """\
JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME
1042    pilot   RUN   normal     login       node1       bl_36ae3d  Nov 20 14:10
1043    pilot   PEND  normal     login          -        bl_36ae3e  Nov 20 14:10
"""
CASES = {
    "slurm": ("12 R\n13_4 PD\n13_[5-9] PD\n", ("12", "13_4", "13_[5-9]")),
    "sge": (SGE, ("7", "12")),
    "pbs": (PBS, ("1042", "1043")),
    "lsf": (LSF, ("1042", "1043")),
    "condor": ("2 0 2\n2 1 1\n3 0 4\n4 0 3\n", ("2 0", "2 1")),
}


@pytest.mark.parametrize("system", CASES)
def test_jobs_that_have_not_ended_are_found(system: str) -> None:
    text, expected = CASES[system]
    assert batch_system(system).parse_own_jobs(0, text) == expected


@pytest.mark.parametrize("system", CASES)
def test_empty_list_means_no_jobs(system: str) -> None:
    assert batch_system(system).parse_own_jobs(0, "") == ()


def test_lsf_says_in_words_that_there_are_none() -> None:
    assert batch_system("lsf").parse_own_jobs(255, "No unfinished job found\n") == ()


@pytest.mark.parametrize("system", CASES)
@pytest.mark.parametrize(
    ("status", "text"),
    [(127, "bash: line 1: squeue: command not found\n"), (1, ""), (0, "Unable to contact the controller\n"), (124, "")],
)
def test_what_is_no_answer_is_not_taken_for_an_empty_list(system: str, status: int, text: str) -> None:
    with pytest.raises(BatchError, match="does not list the jobs"):
        batch_system(system).parse_own_jobs(status, text)


def test_command_is_taken_from_where_the_site_says() -> None:
    assert batch_system("slurm").own_jobs_command("ann", "/opt/slurm/bin", {})[:4] == (
        "/opt/slurm/bin/squeue", "-h", "-u", "ann",
    )  # fmt: skip
    assert batch_system("pbs").own_jobs_command("ann", None, {}) == ("qstat", "-u", "ann")


def test_grid_engine_is_told_which_one_it_is() -> None:
    settings = {"sge_rootpath": "/var/lib/gridengine", "sge_cellname": "default"}
    assert batch_system("sge").own_jobs_command("ann", None, settings) == (
        "env", "SGE_ROOT=/var/lib/gridengine", "SGE_CELL=default", "qstat", "-u", "ann",
    )  # fmt: skip
    # HTCondor's own default: to be expanded by a shell, which does not happen here.
    assert batch_system("sge").own_jobs_command("ann", None, {"sge_rootpath": "$SGE_ROOT"})[0:2] == ("env", "qstat")
