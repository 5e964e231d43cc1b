# SPDX-License-Identifier: Apache-2.0
"""A probe over a real sshd, with batch commands that are made up: what it runs, what it survives, what it leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.batch import BATCH_SYSTEMS
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.probe import ProbeReport, probe
from glideinwms_bosco.remote.probe_channels import count_sessions, remote_forwarding
from glideinwms_bosco.remote.probe_codes import RULES, SEVERITIES, codes_page
from glideinwms_bosco.remote.probe_wishes import demands_of
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.site.model import Account, Batch, Entry, Install, Login, SiteDescription
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd"]

CHECKOUT = Path(__file__).parents[2]
ACCOUNT = Account("a", "pilot")
SITE = SiteDescription(
    "Site", "Site", "grid", Login("login.example.org"), (ACCOUNT,), Batch("slurm"), (Entry("E", walltime_s=7200),)
)
# Slurm's commands as they answer where a job runs at once; the job's script comes on standard input.
SCONTROL = """#!/bin/sh
case "$*" in
  *config) printf 'MinJobAge = 300 sec\\nSLURM_VERSION = 24.11.5\\n' ;;
  *partition) printf 'PartitionName=batch\\n   AllowGroups=ALL Default=YES\\n   MaxTime=UNLIMITED State=UP\\n' ;;
  *) cat "$HOME/state" ;;
esac
"""
SBATCH = """#!/bin/sh
cat >"$HOME/script"
printf '%s\\n' "$*" >"$HOME/arguments"
{ [ ! -e "$HOME/runs" ] || sh "$HOME/script"; } >/dev/null 2>&1
echo 17
"""
QUIET = "#!/bin/sh\n"
SCANCEL = '#!/bin/sh\necho "$*" >"$HOME/cancelled"\n'


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    assert list(path.iterdir()) == []


@pytest.fixture
def slurm(loopback_sshd: LoopbackSshd) -> LoopbackSshd:
    """A login node with a Slurm of our own."""
    folder = loopback_sshd.home / "bin"
    folder.mkdir()
    programs = {"scontrol": SCONTROL, "sbatch": SBATCH, "scancel": SCANCEL, "squeue": QUIET, "sacct": QUIET}
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (loopback_sshd.home / "state").write_text("   JobState=PENDING Reason=Priority\n")
    return loopback_sshd


def run(daemon: LoopbackSshd, site: SiteDescription = SITE, job_timeout_s: int = 0) -> ProbeReport:
    batch = dataclasses.replace(site.batch, bin_path=str(daemon.home / "bin"))
    with daemon.session() as session:
        return probe(session, dataclasses.replace(site, batch=batch), ACCOUNT, job_timeout_s=job_timeout_s)


def codes(report: ProbeReport) -> set[int]:
    """Those found, without what depends on the machine of the test (its limits, sshd, disk, clock)."""
    return {finding.number for finding in report.findings if finding.number not in (4, 14, 21, 25, 32, 70, 71)}


def leftovers(daemon: LoopbackSshd) -> list[str]:
    return [path.name for path in daemon.home.iterdir() if path.name.startswith(".gwms")]


def test_job_that_runs_shows_a_shared_home(slurm: LoopbackSshd) -> None:
    (slurm.home / "runs").touch()
    report = run(slurm, job_timeout_s=20)
    assert codes(report) == set()
    assert report.facts.job.outcome == "back"
    assert not (slurm.home / "cancelled").exists()
    assert leftovers(slurm) == []


@pytest.mark.parametrize("name", ["plain", "with blank", "quo'te", 'dou"ble $HOME `id` \\'])
def test_folder_of_any_name_reaches_the_job(slurm: LoopbackSshd, name: str) -> None:
    place = slurm.home / name
    place.mkdir()
    (slurm.home / "bosco").symlink_to(place)
    (slurm.home / "runs").touch()
    assert codes(run(slurm, job_timeout_s=20)) == set()
    assert list(place.iterdir()) == []


def test_job_that_waits_is_taken_back_at_the_deadline(slurm: LoopbackSshd) -> None:
    report = run(slurm, job_timeout_s=1)
    assert codes(report) == {60}
    assert "Priority" in str(report.findings)
    assert (slurm.home / "cancelled").read_text() == "17\n"
    assert leftovers(slurm) == []


@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("JobState=FAILED Reason=NonZeroExitCode\n   ExitCode=81:0", 23),
        ("JobState=FAILED Reason=NonZeroExitCode\n   ExitCode=82:0", 23),
        ("JobState=FAILED Reason=NonZeroExitCode\n   ExitCode=83:0", 23),
    ],
)
def test_job_that_says_what_it_missed_ends_the_wait(slurm: LoopbackSshd, state: str, number: int) -> None:
    (slurm.home / "state").write_text(f"   {state}\n")
    report = run(slurm, job_timeout_s=60)
    assert codes(report) == {number}
    assert leftovers(slurm) == []


def test_job_asks_for_the_queue_and_project_of_the_entry(slurm: LoopbackSshd) -> None:
    batch = Batch("slurm", queue="batch", project="acct", qos="low", extra_args=("--comment=hello",))
    run(slurm, dataclasses.replace(SITE, batch=batch), job_timeout_s=1)
    arguments = (slurm.home / "arguments").read_text().split()
    assert {"--partition=batch", "--account=acct", "--qos=low", "--comment=hello", "--time=5"} <= set(arguments)


def test_refused_job_is_told_in_the_words_of_the_batch_system(slurm: LoopbackSshd) -> None:
    (slurm.home / "bin/sbatch").write_text("#!/bin/sh\necho 'sbatch: error: Invalid \033[31mqos'\nexit 1\n")
    report = run(slurm, job_timeout_s=10)
    assert codes(report) == {58}
    assert "Invalid ?[31mqos" in str(report.findings[-1])


def test_job_that_cannot_start_for_a_known_reason_is_not_told_twice(slurm: LoopbackSshd) -> None:
    (slurm.home / "bin/sbatch").write_text("#!/bin/sh\nexit 1\n")
    batch = Batch("slurm", queue="nosuch")
    assert codes(run(slurm, dataclasses.replace(SITE, batch=batch), job_timeout_s=10)) == {52}


def test_command_that_floods_and_one_that_imitates_the_protocol_break_nothing(slurm: LoopbackSshd) -> None:
    (slurm.home / "bin/scontrol").write_text(
        "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\nyes 'STATUS config 0' | head -n 100000\n"
    )
    report = run(slurm)
    assert codes(report) == {51}
    assert not report.batch.answers
    assert len(str(report.findings)) < 2000


def test_profile_that_hangs_is_told_and_the_rest_is_still_reported(
    slurm: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glideinwms_bosco.remote.probe.PROFILE_TIMEOUT_S", 1)
    (slurm.home / ".bash_profile").write_text("sleep 1000\n")
    report = run(slurm, job_timeout_s=5)
    assert codes(report) == {11}
    assert report.facts.architecture == os.uname().machine


def test_time_limit_of_the_profile_does_not_end_the_job(slurm: LoopbackSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glideinwms_bosco.remote.probe.PROFILE_TIMEOUT_S", 1)
    assert codes(run(slurm, job_timeout_s=2)) == {60}


def test_daemon_that_a_profile_starts_does_not_keep_the_probe(slurm: LoopbackSshd) -> None:
    (slurm.home / ".bash_profile").write_text("sleep 20 >/dev/null 2>&1 </dev/null &\n")
    assert codes(run(slurm)) == set()


def test_what_a_killed_probe_has_left_goes_when_it_is_a_day_old(slurm: LoopbackSshd) -> None:
    for name, age_s in ((".gwms-bosco-probe-old", 3 * 86400), (".gwms-bosco-probe-new", 60)):
        place = slurm.home / name
        place.mkdir()
        (place / "in").touch()
        subprocess.run(["touch", "-d", f"{age_s} seconds ago", str(place)], check=True)
    run(slurm)
    assert leftovers(slurm) == [".gwms-bosco-probe-new"]


def test_forwarding_and_sessions_are_tried(loopback_sshd: LoopbackSshd) -> None:
    with loopback_sshd.session() as session:
        assert remote_forwarding(session) is True
        assert count_sessions(session, 4) == 4
    loopback_sshd.restart("MaxSessions 2")
    loopback_sshd.restart("DisableForwarding yes")
    with loopback_sshd.session() as session:
        assert remote_forwarding(session) is False
        assert count_sessions(session, 4) == 2
        # Nothing is left open: the same number is given again.
        assert count_sessions(session, 2) == 2


def test_closed_session_is_an_error_not_a_finding(loopback_sshd: LoopbackSshd) -> None:
    with pytest.raises(RemoteError, match="not open"):
        remote_forwarding(loopback_sshd.session())


def test_report_is_plain_json(slurm: LoopbackSshd) -> None:
    report = json.loads(json.dumps(run(slurm).as_json()))
    assert report["ok"] is True
    assert report["batch"]["version"] == "24.11.5"
    assert "answers" not in report["facts"]


def test_entries_that_are_off_or_of_another_account_ask_for_nothing() -> None:
    other = Account("b", "pilot2")
    entries = (Entry("A"), Entry("B", enabled=False), Entry("C", accounts=("b",)))
    site = dataclasses.replace(SITE, accounts=(ACCOUNT, other), entries=entries, install=Install())
    assert [demand.entry for demand in demands_of(site, ACCOUNT)] == ["A"]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_programs_parse_in_every_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    argv = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    for program in (load_program("probe_umask.sh", "begin.sh", "probe.sh"), load_program("probe_login.sh")):
        done = subprocess.run(argv, input=program, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_every_batch_system_answers_for_questions_that_nobody_answered() -> None:
    for system in BATCH_SYSTEMS.values():
        facts = system.probe_facts({}, ())
        assert not facts.answers
        assert system.probe_job_state(()).exit_code is None


def test_codes_are_in_order_and_severities_known() -> None:
    assert list(RULES) == sorted(RULES)
    assert {rule.severity for rule in RULES.values()} == set(SEVERITIES)


def test_page_of_codes_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert (CHECKOUT / "docs" / "probe-codes.md").read_text(encoding="utf-8") == codes_page()
    assert main(["remote", "probe", "--codes"]) == 0
    assert capsys.readouterr().out == codes_page()
