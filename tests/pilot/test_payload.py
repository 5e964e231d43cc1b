# SPDX-License-Identifier: Apache-2.0
"""Payloads started by the composed job wrapper: with /cvmfs in place where it is added, and otherwise untouched."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest

from tests.pilot.harness import Pilot
from tests.pilot.job_wrapper import OLD_LAST_LINE, compose
from tests.pilot.node import Faults, Node
from tests.pilot.test_cvmfs_traps import wait_until

MakeNode = Callable[..., Node]
MakePilot = Callable[..., Pilot]
HELLO = "/cvmfs/cms.cern.ch/hello"
MEBIBYTE = 1 << 20
LARGEST_VARIABLE = 131072 - len("BIG=") - 1
"""Bytes. Source: execve(2), MAX_ARG_STRLEN."""
EXIT_CODES = (0, 1, 42, 137, 255)
DEADLINE_S = 20.0
# Writes a line when it is ready for the signal, and one from its trap.
TRAPPING = 'trap "echo trapped; exit 42" TERM; echo ready; while :; do sleep 0.05; done'
# The tools on the way may set these.
SHELL_OWN = {"_", "SHLVL", "PWD", "OLDPWD"}


class Job:
    """Runs payloads of a pilot as HTCondor does: the wrapper, then the command; in a scratch folder of its own."""

    def __init__(self, pilot: Pilot, wrapper: Path, job_ad: str = "") -> None:
        self.pilot, self.wrapper = pilot, wrapper
        self.scratch = pilot.folder / "execute" / "dir_1"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.scratch.chmod(0o777)
        (self.scratch / ".job.ad").write_text(job_ad)
        self.error_file = self.scratch / ".job_wrapper_failure"
        self.env = {
            "_CONDOR_SCRATCH_DIR": str(self.scratch),
            "_CONDOR_JOB_AD": str(self.scratch / ".job.ad"),
            "_CONDOR_WRAPPER_ERROR_FILE": str(self.error_file),
        }

    def run(self, *command: str, stdin: Optional[bytes] = None, **env: str) -> subprocess.CompletedProcess[bytes]:
        return self.pilot.node.run(
            [str(self.wrapper), *command], cwd=self.scratch, env={**self.env, **env}, stdin=stdin, deadline_s=DEADLINE_S
        )

    def run_after(self, script: str, *command: str) -> subprocess.CompletedProcess[bytes]:
        """Run it by a shell that does something first: `$@` is the wrapper and the command."""
        words = ["sh", "-c", script, "sh", str(self.wrapper), *command]
        return self.pilot.node.run(words, cwd=self.scratch, env=self.env, deadline_s=DEADLINE_S)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        # A session of its own, so that a signal to the group does not meet the test's own nsenter.
        return self.pilot.node.start(["setsid", str(self.wrapper), *command], cwd=self.scratch, env=self.env)


def check_codes_and_streams(job: Job) -> None:
    """What every way of running a payload has to keep."""
    for code in EXIT_CODES:
        done = job.run("sh", "-c", f"exit {code}")
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
        assert not job.error_file.exists()
    data = os.urandom(MEBIBYTE)
    done = job.run("cat", stdin=data)
    assert (done.returncode, done.stdout == data, done.stderr) == (0, True, b"")
    done = job.run("sh", "-c", "cat >&2", stdin=data)
    assert (done.returncode, done.stdout, done.stderr == data) == (0, b"", True)
    arguments = ["", "a  b", "it's", '"', "$(id)", "*", "a\nb", "\\"]
    done = job.run("printf", "<%s>", *arguments)
    assert done.stdout.decode() == "".join(f"<{argument}>" for argument in arguments)


def check_surroundings(job: Job) -> None:
    """Limits, a closed stdin, a folder with a blank, and a variable as large as the kernel takes."""
    assert (
        job.run_after('ulimit -n 123; ulimit -c 0; exec "$@"', "sh", "-c", "ulimit -n; ulimit -c").stdout == b"123\n0\n"
    )
    done = job.run_after('exec "$@" <&-', "sh", "-c", "echo started; exit 42")
    assert (done.returncode, done.stdout) == (42, b"started\n"), done
    done = job.run_after('mkdir -p "$PWD/a b" && cd "$PWD/a b" && exec "$@"', "sh", "-c", "pwd; echo x >here")
    assert (done.stdout.decode(), done.stderr) == (f"{job.scratch}/a b\n", b""), done
    assert (job.scratch / "a b" / "here").exists()
    done = job.run("sh", "-c", "echo ${#BIG}", BIG="x" * LARGEST_VARIABLE)
    assert done.stdout.decode() == f"{LARGEST_VARIABLE}\n", done


def check_term(job: Job, group: bool) -> None:
    """TERM to the process HTCondor knows, alone or with its group, runs the payload's trap."""
    with job.start("bash", "-c", TRAPPING) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        pid = payload_pid(process)
        (os.killpg if group else os.kill)(pid, signal.SIGTERM)
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (42, b"trapped\n")


def payload_pid(process: subprocess.Popen[bytes]) -> int:
    """The process that HTCondor would know: nsenter with a PID name space forks, and its child is the job wrapper."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])


def environment(job: Job, **env: str) -> dict[str, str]:
    out = job.run("env", "-0", stdin=None, **env).stdout.decode()
    pairs = dict(line.partition("=")[::2] for line in out.split("\0") if line)
    return {name: value for name, value in pairs.items() if name not in SHELL_OWN}


@pytest.fixture
def userns(make_node: MakeNode, make_pilot: MakePilot, distribution: Path) -> Callable[..., Pilot]:
    """A pilot that got /cvmfs by user name spaces."""

    def make(**config: str) -> Pilot:
        pilot = make_pilot(make_node(), GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), **config)
        outcome = pilot.run("cvmfs_setup")
        assert outcome.metrics.get("mode") == "userns", outcome
        return pilot

    return make


def test_native_adds_nothing(make_node: MakeNode, make_pilot: MakePilot, repositories: Path) -> None:
    pilot = make_pilot(make_node(Faults(native=repositories)))
    assert pilot.run("cvmfs_setup").rc == 0
    outcome = pilot.run("payload_setup")
    assert (outcome.rc, outcome.status, outcome.metrics["wrapped"]) == (0, "OK", "False"), outcome
    assert "GLIDEIN_WRAPPER_EXEC" not in pilot.config()
    job = Job(pilot, compose(pilot))
    assert job.run("cat", HELLO).stdout.startswith(b"hello")
    check_codes_and_streams(job)
    check_surroundings(job)


def test_userns_puts_cvmfs_in_place_and_keeps_the_rest(userns: Callable[..., Pilot]) -> None:
    pilot = userns()
    assert pilot.run("payload_setup").metrics["wrapped"] == "True"
    job = Job(pilot, compose(pilot))
    done = job.run("cat", HELLO)
    assert done.stdout.startswith(b"hello"), done
    check_codes_and_streams(job)
    plain = Job(pilot, Path("/usr/bin/env"))
    odd = {"ODD": "a 'b' \"c\" $(id)\nd", "EMPTY": ""}
    assert environment(job, **odd) == environment(plain, **odd)
    assert job.run("pwd").stdout.decode() == f"{job.scratch}\n"
    check_surroundings(job)
    # The node's /proc, not that of the client's PID name space.
    assert job.run("readlink", "/proc/self").stdout.strip().isdigit()


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_term_reaches_the_payload(userns: Callable[..., Pilot], group: bool) -> None:
    pilot = userns()
    pilot.run("payload_setup")
    check_term(Job(pilot, compose(pilot)), group)


@pytest.mark.parametrize(
    ("job_ad", "found"),
    [
        ('Owner = "me"\n', False),
        ("GWMS_BOSCO_WantCVMFS = true\n", True),
        ("gwms_bosco_wantcvmfs=TRUE\n", True),
        ("RequiresCVMFS = true\n", True),
        ("GWMS_BOSCO_WantCVMFS = false\n", False),
        ("RequiresCVMFS = undefined\n", False),
        ("RequiresCVMFS = error\n", False),
        ("RequiresCVMFS = 1\n", False),
        ('RequiresCVMFS = "true"\n', False),
        ("RequiresCVMFS = ( true )\n", True),
        ("RequiresCVMFS = RequestCpus > 1\n", True),
        ("RequiresCVMFS = false\nGWMS_BOSCO_WantCVMFS = true\n", True),
        ("RequiresCVMFSNot = true\n", False),
        ('Arguments = "GWMS_BOSCO_WantCVMFS = true"\n', False),
        (f'A = "{"x" * 65536}"\n', False),
    ],
)
def test_on_request_only_for_jobs_that_ask(userns: Callable[..., Pilot], job_ad: str, found: bool) -> None:
    pilot = userns(GWMS_BOSCO_PAYLOAD_CVMFS="on-request")
    pilot.run("payload_setup")
    assert (Job(pilot, compose(pilot), job_ad).run("cat", HELLO).returncode == 0) is found


def test_never_leaves_payloads_alone(userns: Callable[..., Pilot]) -> None:
    pilot = userns(GWMS_BOSCO_PAYLOAD_CVMFS="never")
    assert pilot.published()["HAS_CVMFS"] == "True"
    assert pilot.run("payload_setup").metrics["wrapped"] == "False"
    assert Job(pilot, compose(pilot)).run("test", "-e", HELLO).returncode == 1
    # Jobs that ask would find none here.
    assert pilot.published()["HAS_CVMFS"] == "False"
    assert pilot.published()["GWMS_BOSCO_CVMFS_REPOS"] == '"none"'
    assert "(TARGET.RequiresCVMFS =!= True)" in pilot.config()["GLIDEIN_Entry_Start"]


def test_payload_that_ignores_term_ends_by_kill_and_stops_and_goes_on(userns: Callable[..., Pilot]) -> None:
    pilot = userns()
    pilot.run("payload_setup")
    ignoring = 'trap "" TERM; trap "echo went on" USR1; echo ready; while :; do sleep 0.05; done'
    with Job(pilot, compose(pilot)).start("bash", "-c", ignoring) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        pid = payload_pid(process)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGCONT)
        # The test's own nsenter has stopped with its child.
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == b"went on\n"
        os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode != 0


def test_payloads_of_many_slots_at_once(userns: Callable[..., Pilot]) -> None:
    pilot = userns()
    pilot.run("payload_setup")
    wrapper = compose(pilot)
    job = Job(pilot, wrapper)
    running = [job.start("sh", "-c", f"cat {HELLO}; exit {number}") for number in range(8)]
    for number, process in enumerate(running):
        out, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, out[:5], err) == (number, b"hello", b"")


def test_older_glideinwms_quotes_the_last_line(userns: Callable[..., Pilot]) -> None:
    """It is seen in the pilot's own condor_startup.sh, and payloads run all the same."""
    pilot = userns()
    (pilot.folder / "condor_startup.sh").write_text(f"#!/bin/bash\n{OLD_LAST_LINE}")
    assert pilot.run("payload_setup").metrics["wrapped"] == "True"
    job = Job(pilot, compose(pilot, quoted=True))
    assert job.run("cat", HELLO).stdout.startswith(b"hello")
    check_codes_and_streams(job)
    copy = job.scratch / ".gwms-user-job-wrapper.sh"
    copy.write_bytes(job.wrapper.read_bytes())
    copy.chmod(0o755)
    inside = Job(pilot, copy).run("printf", "<%s>", "a  b", "", GWMS_SINGULARITY_REEXEC="1")
    assert (inside.returncode, inside.stdout) == (0, b"<a  b><>"), inside


def test_refuses_a_job_wrapper_that_ends_in_the_shell_of_the_node(make_node: MakeNode, make_pilot: MakePilot) -> None:
    """glideinWMS 3.11.2 and 3.11.3 where sh is no bash: each payload would end with the shell's complaint."""
    pilot = make_pilot(make_node())
    if pilot.node.run(["sh", "-c", "set +o posix"]).returncode == 0:
        pytest.skip("sh of this machine is bash")
    head = '#!/bin/sh\nif [ -n "$BASH_VERSION" ]; then\n    set +o posix\nfi\nEOF\n'
    startup = pilot.folder / "condor_startup.sh"
    startup.write_text(f'#!/bin/bash\ncat > "$condor_job_wrapper" <<"EOF"\n{head}')
    assert pilot.run("payload_setup").rc == 0
    startup.write_text(f'#!/bin/bash\ncat > "$condor_job_wrapper" <<EOF\n{head}')
    outcome = pilot.run("payload_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "BOSCO-PAYLOAD-07" in outcome.detail


def test_refuses_a_glideinwms_that_starts_payloads_in_a_way_it_does_not_know(userns: Callable[..., Pilot]) -> None:
    pilot = userns()
    (pilot.folder / "condor_startup.sh").write_text("#!/bin/bash\nexec run-by $GLIDEIN_WRAPPER_EXEC\n")
    outcome = pilot.run("payload_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "BOSCO-PAYLOAD-06" in outcome.detail and "exec run-by GLIDEIN_WRAPPER_EXEC" in outcome.detail
    assert "GLIDEIN_WRAPPER_EXEC" not in pilot.config()


def test_start_expression_keeps_asking_jobs_away_without_cvmfs(make_node: MakeNode, make_pilot: MakePilot) -> None:
    pilot = make_pilot(make_node(), GWMS_BOSCO_CVMFS_REQUIRED="False", GLIDEIN_Entry_Start='(Owner =!= "x")')
    for _ in range(2):
        assert pilot.run("payload_setup").rc == 0
    assert pilot.config()["GLIDEIN_Entry_Start"] == (
        '((Owner =!= "x")) && (TARGET.GWMS_BOSCO_WantCVMFS =!= True) && (TARGET.RequiresCVMFS =!= True)'
    )


def test_payload_in_a_container_of_its_own_runs_bare(userns: Callable[..., Pilot]) -> None:
    """glideinWMS copies the composed wrapper into the job's folder and runs it again inside the container."""
    pilot = userns()
    pilot.run("payload_setup")
    job = Job(pilot, compose(pilot))
    copy = job.scratch / ".gwms-user-job-wrapper.sh"
    copy.write_bytes(job.wrapper.read_bytes())
    copy.chmod(0o755)
    inside = Job(pilot, copy)
    done = inside.run("sh", "-c", f"test -e {HELLO} || exit 42", GWMS_SINGULARITY_REEXEC="1")
    assert (done.returncode, done.stderr) == (42, b"")
    assert not inside.error_file.exists()


def test_lost_helper_is_the_wrappers_failure_and_not_the_jobs(userns: Callable[..., Pilot]) -> None:
    pilot = userns()
    pilot.run("payload_setup")
    job = Job(pilot, compose(pilot))
    (pilot.folder / "gwms_bosco" / "payload-exec").unlink()
    done = job.run("true")
    assert done.returncode != 0
    assert b"BOSCO-PAYLOAD-01" in done.stderr
    assert "BOSCO-PAYLOAD-01" in job.error_file.read_text()


def test_lost_mounts_are_the_wrappers_failure_and_not_the_jobs(userns: Callable[..., Pilot]) -> None:
    pilot = userns()
    pilot.run("payload_setup")
    job = Job(pilot, compose(pilot))
    conf = pilot.folder / "gwms_bosco" / "cvmfs.conf"
    conf.write_text(conf.read_text().replace("HOLDER_START=", "HOLDER_START=9"))
    done = job.run("true")
    assert done.returncode == 125, done
    assert "BOSCO-PAYLOAD-02" in job.error_file.read_text()


def test_other_fragments_around_ours_still_run(userns: Callable[..., Pilot]) -> None:
    """One before that starts the whole wrapper again by bash, as glideinWMS's singularity wrapper does."""
    pilot = userns()
    pilot.run("payload_setup")
    again = '[ -n "$BASH_VERSION" ] || exec bash "$0" "$@"\n'
    job = Job(pilot, compose(pilot, [again], ["MARK=after; export MARK\n"]))
    done = job.run("sh", "-c", f'echo "$MARK"; cat {HELLO}')
    assert done.stdout.startswith(b"after\nhello"), done


def test_payloads_start_where_old_bash_has_no_room_for_here_documents(
    node: Node, make_pilot: MakePilot, distribution: Path, tmp_path: Path
) -> None:
    """Before 5.1 they are files; half a program would end well and have started nothing."""
    full = tmp_path / "full"
    full.mkdir()
    fill = 'mount -t tmpfs -o size=4k,mode=1777 full "$1" && cat /dev/zero >"$1/zero"'
    assert b"No space left" in node.run(["sh", "-c", fill, "sh", str(full)], user=0).stderr
    env = {"BASH_COMPAT": "50", "TMPDIR": str(full)}
    refused = node.run(["bash", "-c", "cat <<<text"], env=env)
    assert b"cannot create temp file" in refused.stderr, refused
    pilot = make_pilot(node, env=env, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS="userns")
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "userns"
    assert pilot.run("credentials_setup").metrics.get("ca") == "none"
    assert pilot.run("payload_setup").metrics.get("wrapped") == "True"
    job = Job(pilot, compose(pilot))
    assert job.run("cat", HELLO, stdin=None, **env).stdout.startswith(b"hello")
    assert job.run("sh", "-c", "exit 42", stdin=None, **env).returncode == 42
    pilot.end()


HOSTILE = (
    "a b",
    "'always'",
    '"',
    "$(touch /tmp/injected)",
    "`touch /tmp/injected`",
    "always;touch /tmp/injected",
    "x" * 65536,
    "a b\n$(touch /tmp/injected)\n`touch /tmp/injected`",
)


@pytest.mark.parametrize("key", ["GWMS_BOSCO_PAYLOAD_CVMFS", "GWMS_BOSCO_CONTAINER", "GWMS_BOSCO_DIR"])
def test_refuses_hostile_values(make_node: MakeNode, make_pilot: MakePilot, key: str) -> None:
    node = make_node()
    for number, value in enumerate(HOSTILE):
        pilot = make_pilot(node, f"pilot{number}", **{key: value})
        outcome = pilot.run("payload_setup")
        assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
        assert key in outcome.detail
        assert len(outcome.detail) < 300
        assert "GLIDEIN_WRAPPER_EXEC" not in pilot.config()
    assert node.run(["test", "-e", "/tmp/injected"]).returncode == 1


def test_hostile_start_expression_is_kept_as_it_is(make_node: MakeNode, make_pilot: MakePilot) -> None:
    """It is the factory's own; what is added keeps away from its inside."""
    node = make_node()
    for number, value in enumerate(HOSTILE):
        pilot = make_pilot(node, f"pilot{number}", GLIDEIN_Entry_Start=value)
        assert pilot.run("payload_setup").rc == 0
        line = value.partition("\n")[0]
        assert pilot.config()["GLIDEIN_Entry_Start"].startswith(f"({line}) && (TARGET.GWMS_BOSCO_WantCVMFS =!= True)")
    assert node.run(["test", "-e", "/tmp/injected"]).returncode == 1


@pytest.mark.parametrize("where", ["config", "environment"])
def test_hostile_tool_of_a_frontend_stays_what_it_is(userns: Callable[..., Pilot], where: str) -> None:
    name = "GLIDEIN_SINGULARITY_BINARY_OVERRIDE"
    pilot = userns()
    config = pilot.folder / "glidein_config"
    before = config.read_text()
    for value in HOSTILE[:-1]:
        config.write_text(f"{before}{name} {value}\n" if where == "config" else before)
        # The kernel takes no longer variable than 128 KiB.
        pilot.write("payload_setup")
        env = {name: value} if where == "environment" else {}
        done = pilot.node.run(["./payload_setup", "glidein_config", "entry"], cwd=pilot.folder, env=env)
        assert done.returncode == 0, done
        why = f'"{name} is set here"'
        assert pilot.published()["GWMS_BOSCO_CVMFS_IN_CONTAINERS_WHY"] == why
        assert pilot.config().get(name) == (value if where == "config" else None)
    assert pilot.node.run(["test", "-e", "/tmp/injected"]).returncode == 1


def test_rest_of_a_value_behind_a_newline_is_a_key_of_its_own(make_node: MakeNode, make_pilot: MakePilot) -> None:
    node = make_node()
    pilot = make_pilot(node, GWMS_BOSCO_PAYLOAD_CVMFS="always\n$(touch /tmp/injected) x\n`touch /tmp/injected`")
    assert pilot.run("payload_setup").rc == 0
    assert node.run(["test", "-e", "/tmp/injected"]).returncode == 1
