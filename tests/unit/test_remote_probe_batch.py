# SPDX-License-Identifier: Apache-2.0
"""What each batch system says, as facts. Slurm's, Grid Engine's and HTCondor's texts were printed by the versions named
in them; those of PBS and LSF follow their manuals, no such system could be tried."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from glideinwms_bosco.batch import BATCH_SYSTEMS, ResourceRequest
from glideinwms_bosco.batch.probing import JOB_ID, Answer, BatchFacts, Queue, seconds_of

SLURM_CONFIG = """\
AccountingStorageEnforce = associations,limits
AccountingStorageType   = (null)
MinJobAge               = 60 sec
SLURM_VERSION           = 24.11.5
"""
SLURM_PARTITIONS = """\
PartitionName=batch
   AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL
   AllocNodes=ALL Default=YES QoS=N/A
   MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED MaxCPUsPerSocket=UNLIMITED
   Nodes=worker[1-2]
   State=UP TotalCPUs=128 TotalNodes=2 SelectTypeParameters=NONE

PartitionName=gpu
   AllowGroups=ml,hpc AllowAccounts=acct1,acct2 AllowQos=ALL
   AllocNodes=ALL Default=NO QoS=N/A
   MaxTime=UNLIMITED State=DRAIN

"""
SGE_QUEUES = """\
qname                 batch
hostlist              @allhosts
s_rt                  INFINITY
h_rt                  48:00:00
qname                 short
h_rt                  INFINITY
"""
SGE_SUMMARY = """\
CLUSTER QUEUE                   CQLOAD   USED    RES  AVAIL  TOTAL aoACDS  cdsuE
--------------------------------------------------------------------------------
batch                             0.18      0      0     64     64      0      0
short                             -NA-      0      0      0     32      0     32
"""
SGE_CONFIG = """\
#global:
login_shells                 bash,sh,ksh,csh,tcsh
reporting_params             accounting=true reporting=false \\
                             flush_time=00:00:15 joblog=false sharelog=00:00:00
max_u_jobs                   500
"""
PBS_SERVER = """\
Server: pbs
    server_state = Active
    server_host = pbs.example.org
    default_queue = workq
    max_queued = [u:PBS_GENERIC=200]
    pbs_version = 19.1.3
"""
PBS_QUEUES = """\
Queue: workq
    queue_type = Execution
    total_jobs = 0
    resources_max.walltime = 24:00:00
    enabled = True
    started = True

Queue: night
    queue_type = Execution
    enabled = True
    started = False
"""
LSF_QUEUES = """\
QUEUE: normal
  -- For normal low priority jobs, running only if hosts are lightly loaded.  This is the default queue.

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV PJOBS
 30    0  Open:Active       -    -    -    -     0     0     0     0     0    0     0

RUNLIMIT
 1440.0 min of hostA

-------------------------------------------------------------------------------

QUEUE: closed
  -- Nothing goes there

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV PJOBS
 30    0  Closed:Inact_Adm  -    -    -    -     0     0     0     0     0    0     0
"""
LSF_USABLE = """\
QUEUE_NAME      PRIO STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN  SUSP
normal           30  Open:Active       -    -    -    -     0     0     0     0
"""


def answer(text: str, status: int = 0) -> Answer:
    return Answer(status, tuple(text.splitlines()))


CASES: dict[str, tuple[str, Mapping[str, Answer], BatchFacts]] = {
    "slurm": (
        "slurm",
        {
            "config": answer(SLURM_CONFIG),
            "queues": answer(SLURM_PARTITIONS),
            "projects": answer("acct1|50\nacct3|\n"),
            "accounting": answer("Slurm accounting storage is disabled", 1),
        },
        BatchFacts(
            version="24.11.5",
            queues=(
                Queue("batch", True, "UP", True, True, 86400),
                Queue("gpu", False, "DRAIN", False, False, None, ("acct1", "acct2")),
            ),
            projects=("acct1", "acct3"),
            max_queued=50,
            accounting=False,
            keeps_ended_s=60,
        ),
    ),
    "slurm-federated": (
        "slurm",
        {
            "config": answer("SLURM_VERSION = 23.02.7"),
            "queues": answer("slurm_load_partitions: Unable to contact slurm controller", 1),
            "queuesc2": answer("PartitionName=batch\n   AllowGroups=cms State=UP"),
            "accounting": Answer(None),
        },
        BatchFacts(version="23.02.7", queues=(Queue("batch@c2", True, "UP", usable=True),)),
    ),
    "slurm-down": (
        "slurm",
        {"config": answer("slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)", 1)},
        BatchFacts(
            answers=False, trouble="slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)"
        ),
    ),
    "sge": (
        "sge",
        {
            "version": answer("SGE 8.1.9\nusage: qstat [options]"),
            "queues": answer(SGE_QUEUES),
            "summary": answer(SGE_SUMMARY),
            "usable": answer("batch@node1"),
            "config": answer(SGE_CONFIG),
            "xml": answer("Can't locate XML/Simple.pm in @INC", 2),
        },
        BatchFacts(
            version="SGE 8.1.9",
            queues=(
                Queue("batch", True, "0 of 64 slots are off", usable=True, max_walltime_s=172800),
                Queue("short", False, "32 of 32 slots are off", usable=False),
            ),
            max_queued=500,
            accounting=True,
            lacks=("the Perl module XML::Simple",),
        ),
    ),
    "sge-down": (
        "sge",
        {"config": answer("error: commlib error: got select error (Connection refused)", 1)},
        BatchFacts(answers=False, trouble="error: commlib error: got select error (Connection refused)"),
    ),
    "condor": (
        "condor",
        {
            "version": answer("$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $"),
            "queue": answer("-- Schedd: login-condor\nTotal for query: 0 jobs"),
            "schedds": answer("login-condor"),
            "limit": answer("100000"),
            "accounting": answer(""),
        },
        BatchFacts(version="23.9.6", queues=(Queue("login-condor"),), max_queued=100000, accounting=True),
    ),
    "condor-down": (
        "condor",
        {"queue": answer("Error: Can't find address for schedd login-condor", 1)},
        BatchFacts(answers=False, trouble="Error: Can't find address for schedd login-condor"),
    ),
    "pbs": (
        "pbs",
        {"server": answer(PBS_SERVER), "queues": answer(PBS_QUEUES)},
        BatchFacts(
            version="19.1.3",
            queues=(
                Queue("workq", True, "enabled = True, started = True", True, max_walltime_s=86400),
                Queue("night", False, "enabled = True, started = False"),
            ),
            max_queued=200,
        ),
    ),
    "lsf": (
        "lsf",
        {
            "version": answer("IBM Spectrum LSF Standard 10.1.0.6, May 25 2018\nMy cluster name is c1"),
            "queues": answer(LSF_QUEUES),
            "usable": answer(LSF_USABLE),
        },
        BatchFacts(
            version="IBM Spectrum LSF Standard 10.1.0.6",
            queues=(
                Queue("normal", True, "Open:Active", True, True, 86400),
                Queue("closed", False, "Closed:Inact_Adm", usable=False),
            ),
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_answers_become_facts(case: str) -> None:
    name, answers, facts = CASES[case]
    assert BATCH_SYSTEMS[name].probe_facts(answers, ("pilot", "cms")) == facts


@pytest.mark.parametrize("name", BATCH_SYSTEMS)
@pytest.mark.parametrize(
    "text", ["", "=", "a=b", "PartitionName=", "qname", "Queue: x", "QUEUE: x", "| | |", "x" * 5000]
)
def test_any_answer_gives_facts(name: str, text: str) -> None:
    system = BATCH_SYSTEMS[name]
    request = ResourceRequest(queue="q@c")
    for status in (0, 1, 127, None):
        answers = {q.key: Answer(status, (text, text)) for q in system.probe_questions("pilot", [request])}
        system.probe_facts(answers, ())
        system.probe_job_state((text,))


ENDS: list[tuple[str, str, object, str]] = [
    ("slurm", "   JobState=FAILED Reason=NonZeroExitCode\n   Reboot=0 ExitCode=81:0", 81, "NonZeroExitCode"),
    ("slurm", "   JobState=CANCELLED Reason=None\n   Reboot=0 ExitCode=0:15", None, "None"),
    ("slurm", "   JobState=PENDING Reason=Priority\n   Reboot=0 ExitCode=0:0", None, "Priority"),
    ("condor", "4 81 undefined", 81, ""),
    ("condor", "5 undefined Error from slot1: cannot enter folder", None, "Error from slot1: cannot enter folder"),
    ("pbs", "    job_state = C\n    exit_status = 82", 82, ""),
    ("pbs", "    job_state = Q\n    comment = Not Running: Not enough of the right type of nodes", None,
     "Not Running: Not enough of the right type of nodes"),
    ("lsf", "JOBID USER STAT QUEUE\n7 pilot DONE normal", 0, ""),
    ("sge", "Following jobs do not exist:\n99", None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "code", "reason"), ENDS)
def test_end_of_the_test_job_is_read(name: str, text: str, code: object, reason: str) -> None:
    state = BATCH_SYSTEMS[name].probe_job_state(text.splitlines())
    assert (state.exit_code, state.reason) == (code, reason)


@pytest.mark.parametrize("name", BATCH_SYSTEMS)
def test_job_is_put_where_the_request_says_and_can_be_taken_back(name: str) -> None:
    system = BATCH_SYSTEMS[name]
    plan = system.probe_job(ResourceRequest(queue="long", extra_args=("+A=1",) if name == "condor" else ()))
    assert any("long" in word for word in plan.submit)
    assert JOB_ID in plan.state
    assert JOB_ID in plan.cancel
    assert not any("\n" in word for word in (*plan.submit, *plan.text))


@pytest.mark.parametrize(
    ("name", "queue", "names"),
    [
        ("slurm", "a,b@c2", ("a@c2", "b@c2")),
        ("sge", "batch@node1", ("batch",)),
        ("pbs", "workq@server", ("workq",)),
        ("condor", "schedd", ("schedd",)),
        ("condor", "schedd/collector", ()),
    ],
)
def test_queues_are_named_as_the_facts_name_them(name: str, queue: str, names: tuple[str, ...]) -> None:
    assert BATCH_SYSTEMS[name].probe_queue_names(queue) == names


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1-00:00:00", 86400), ("24:00:00", 86400), ("30:00", 1800), ("90", 90), ("2-12", 216000), ("UNLIMITED", None),
        ("INFINITY", None), ("", None), ("-1", None), ("1_0", None), ("9" * 13, None),
    ],
)  # fmt: skip
def test_times_are_seconds(text: str, seconds: object) -> None:
    assert seconds_of(text) == seconds
