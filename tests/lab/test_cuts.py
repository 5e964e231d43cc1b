# SPDX-License-Identifier: Apache-2.0
"""Fault injection: every command that changes an account is cut at every distinct step, and nothing breaks.

Commands that change something (`_COMMANDS`) are counted by a shim in front of PATH, which only the account's startup
file sets, so the product is as it is. A dry run lists the steps of deploy (an upgrade), rollback, gc and remove; steps
that differ in a file's name only are one, cut at its first and its last call. At each of them the connection's sshd and
the program on the login node are killed with SIGKILL, before the step and when it has done a part. Then the disk is
filled at each step that writes, on a file system of limited size, and the clock is set off by 400 days both ways.

After each cut two things are asked.
1. Do jobs still run through the entry? The whole way through schedd and gridmanager takes 12 s; it is gone for one cut
   of deploy and at the end. For every other cut the real blahpd is started over ssh by the path that remote_gahp uses,
   and made to submit a real job to the real Slurm: everything of the login node that a pilot's submission needs, and
   nothing less; what is left out (gridmanager, ft-gahp) does not see the cut. `remove` takes the link away first: from
   there on jobs cannot run, and the question is only the second.
2. Does the same command, given once more, finish, and is every version then as installed?
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import USER, gwms_bosco, key_of
from tests.lab.other_htcondor import OTHER_ROOT, bring_other_htcondor
from tests.lab.sites import LabSite
from tests.lab.waiting import await_true

_SHIM = Path(__file__).with_name("cut_shim.sh")
_CUTS = "/var/lib/gwms-cuts"
_COMMANDS = ("mkdir", "mv", "ln", "cp", "tar", "chmod", "rm", "rmdir", "sync", "touch")
_HOME = "/shared/pilot"
_SITE = "cuts"
_TOP = f"{_HOME}/bosco-{_SITE}"
_SAVED = "/root/saved"
_DISK_MB = 80
_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
# verb -> its steps after the end marker, in the EXIT trap.
_CLEAN_LINK = "rm -f -- .glite-#"
_AFTER_ANSWER = {"deploy": ("rm -rf -- versions/.staging-#-#", _CLEAN_LINK), "rollback": (_CLEAN_LINK,)}
_STARTUP = f"""\
if [ -e {_CUTS}/armed ]; then PATH={_CUTS}/bin:$PATH; fi
if [ -e {_CUTS}/clock ]; then export LD_PRELOAD={_FAKETIME} FAKETIME="$(cat {_CUTS}/clock)"; fi
"""
# What gridmanager says to blahpd, with the answer of its worker waited for.
_SUBMIT = """\
import subprocess, sys, time
ad = '[Cmd="/bin/true";Args="";gridtype="slurm";In="/dev/null";Out="/dev/null";Err="/dev/null";Iwd="%s"]'
argv = ["ssh", "-i", sys.argv[1], "-o", "IdentitiesOnly=yes", "pilot@login", "bash -l -c " + sys.argv[2]]
gahp = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
def ask(line):
    gahp.stdin.write(line + "\\n")
    gahp.stdin.flush()
    return gahp.stdout.readline()
said = gahp.stdout.readline()
said += ask("BLAH_JOB_SUBMIT 1 " + (ad % sys.argv[3]).replace(" ", "\\\\ "))
ends = time.monotonic() + 20
while time.monotonic() < ends:
    count = ask("RESULTS")
    if count.strip() == "S 1":
        said = gahp.stdout.readline()
        break
    said += count
    time.sleep(0.02)
gahp.stdin.close()
gahp.kill()
print(said)
"""


@dataclass
class Range:
    """The lab with one account to break, and what was done to it."""

    lab: Lab
    site: LabSite
    cuts: list[str] = field(default_factory=list)

    def root(self, script: str, *args: str) -> str:
        return self.lab.run("login", ["sh", "-euc", script, "sh", *args]).stdout

    def arm(self, at: int, how: str = "cut") -> None:
        script = 'cd "$1"; echo 0 >count; : >calls; echo "$2" >at; echo "$3" >how; touch armed; chown pilot count calls'
        self.root(script, _CUTS, str(at), how)

    def disarm(self) -> list[str]:
        """Back to peace; the commands that were called."""
        return self.root('cd "$1"; rm -f armed clock; cat calls', _CUTS).splitlines()

    def save(self, name: str) -> None:
        self.root('mkdir -p "$1"; rm -rf "$1/$2"; cp -a "$3" "$1/$2"', _SAVED, name, _TOP)

    def restore(self, name: str) -> None:
        script = 'mkdir -p "$3"; find "$3" -mindepth 1 -delete; cp -a "$1/$2/." "$3"; scancel -u pilot'
        self.root(script, _SAVED, name, _TOP)

    def command(self, verb: str, *options: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        argv = ("remote", verb, _SITE, "--key", key_of("pilot"), *options)
        return gwms_bosco(self.lab, *argv, check=check)

    def current(self) -> str:
        return self.root('readlink "$1/glite" 2>/dev/null || :', _TOP).strip()

    def job_runs(self) -> None:
        """A job is accepted through the version that `glite` points to."""
        argv = ["python3", "-c", _SUBMIT, key_of("pilot"), f"{_TOP}/glite/bin/blahpd", _HOME]
        said = self.lab.run("factory", argv, user=USER).stdout
        assert re.search(r"^1 0 No\\ error slurm/\d+/\d+", said), f"{self.cuts[-1:]}: blahpd says {said!r}"

    def idle(self) -> None:
        def gone() -> bool:
            return not self.root("scancel -u pilot; squeue -h -u pilot").strip()

        await_true(gone, "jobs of the account gone")

    def all_as_installed(self) -> None:
        done = self.command("verify", "--all-versions", "--json")
        assert done.returncode == 0, f"{self.cuts[-1:]}: {done.stdout}{done.stderr}"
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["current"] in report["there"]


@pytest.fixture(scope="module")
def ground(lab: Lab) -> Iterator[Range]:
    bring_other_htcondor(lab)
    bin_dir, links = f"{_CUTS}/bin", " ".join(_COMMANDS)
    lab.run("login", ["mkdir", "-p", bin_dir])
    lab.write_file("login", f"{bin_dir}/shim", _SHIM.read_text(), mode=0o755)
    lab.run("login", ["sh", "-c", f"cd {bin_dir}; for c in {links}; do ln -s shim $c; done"])
    lab.write_file("login", f"{_CUTS}/disk", f"{_TOP}\n")
    lab.write_file("login", f"{_HOME}/.bashrc", _STARTUP, "pilot:pilot")
    site = LabSite(_SITE)
    site.add(lab)
    made = Range(lab, site)
    made.command("deploy", check=True)
    made.save("one")
    try:
        yield made
        print(f"\n{len(made.cuts)} cuts:")
        print("\n".join(made.cuts))
    finally:
        lab.run("login", ["rm", "-rf", f"{_HOME}/.bashrc", _CUTS, _SAVED, _TOP])


@pytest.fixture(scope="module")
def upgraded(ground: Range) -> Range:
    """Saved state `two`: HTCondor 25.14 after 23.9. The site file names 25.14 from now on."""
    ground.restore("one")
    LabSite(_SITE, install={"htcondor": {"root": OTHER_ROOT}}).add(ground.lab)
    ground.command("deploy", check=True)
    ground.save("two")
    return ground


def kind_of(call: str) -> str:
    """What a call does, without the names of files."""
    call = re.sub(r"[0-9a-f]{12,64}", "#", call)
    call = re.sub(r"(?<=/tree/)\S+|(?<=versions/#/)\S+", "*", call)
    call = re.sub(r"^chmod -- \d+", "chmod --", call)
    name, _, rest = call.partition(" ")
    words = rest.split()
    shown = words if len(words) <= 6 else [*words[:2], "...", words[-1]]
    return " ".join([name, *dict.fromkeys(shown)])


def distinct(calls: list[str]) -> list[tuple[int, str]]:
    """First and last call of each kind: (number from 1, what it does)."""
    places: dict[str, list[int]] = {}
    for number, call in enumerate(calls, 1):
        places.setdefault(kind_of(call), []).append(number)
    return sorted({(number, kind) for kind, numbers in places.items() for number in (numbers[0], numbers[-1])})


def steps_of(ground: Range, state: str, verb: str, *options: str) -> list[tuple[int, str]]:
    ground.restore(state)
    ground.arm(0)
    done = ground.command(verb, *options)
    calls = ground.disarm()
    assert done.returncode == 0, done.stderr
    steps = distinct(calls)
    assert steps
    return steps


def break_at(ground: Range, state: str, at: int, how: str, verb: str, *options: str) -> int:
    """Run a command from a saved state with one fault in it; its exit status."""
    ground.restore(state)
    ground.arm(at, how)
    try:
        done = ground.command(verb, *options)
    finally:
        ground.disarm()
    assert "Traceback" not in done.stderr
    return done.returncode


def half_of(kind: str) -> bool:
    """Steps that can have done a part; of one system call the next step's cut is the other half."""
    return kind.startswith(("rm -rf", "tar "))


def cut_everywhere(ground: Range, state: str, verb: str, *options: str) -> Iterator[None]:
    """Cut a command at all its steps; the caller judges after each."""
    for at, kind in steps_of(ground, state, verb, *options):
        for how in ("cut", "half") if half_of(kind) else ("cut",):
            status = break_at(ground, state, at, how, verb, *options)
            ground.cuts.append(f"{verb}: {how} at step {at}: {kind}")
            # Behind the answer, and only there, it is open whether it had left the host when sshd was killed.
            allowed = (0, 3) if kind in _AFTER_ANSWER.get(verb, ()) else (3,)
            assert status in allowed, f"{ground.cuts[-1]}: exit status {status}"
            yield


def finish(ground: Range, verb: str, *options: str) -> None:
    done = ground.command(verb, *options)
    assert done.returncode == 0, f"{ground.cuts[-1]}: then {verb}: {done.stdout}{done.stderr}"


def test_upgrade_cut_anywhere_leaves_a_version_that_works_and_the_next_one_finishes(upgraded: Range) -> None:
    upgraded.restore("two")
    old, new = upgraded.root('cd "$1"; ls', f"{_SAVED}/one/versions").split(), upgraded.current()
    for number, _ in enumerate(cut_everywhere(upgraded, "one", "deploy")):
        assert upgraded.current() in (f"versions/{old[0]}", new)
        upgraded.job_runs()
        if number == 0:
            result = upgraded.site.test(upgraded.lab)
            assert result["passed"], result
        finish(upgraded, "deploy")
        assert upgraded.current() == new
    upgraded.all_as_installed()


def test_repair_cut_anywhere_is_finished_by_the_next_one(upgraded: Range) -> None:
    """Files are replaced in the version that is in use."""
    upgraded.restore("two")
    upgraded.root('cd "$1/glite"; rm lib/*utils*; chmod 700 libexec/slurm_cancel.sh; : >manifest.entries', _TOP)
    upgraded.save("damaged")
    for _ in cut_everywhere(upgraded, "damaged", "deploy"):
        finish(upgraded, "deploy")
        upgraded.all_as_installed()
    upgraded.job_runs()


def test_adoption_of_a_link_cut_anywhere_leaves_an_install_that_works(upgraded: Range) -> None:
    """A hand-made `glite` that is a link is replaced by rename."""
    upgraded.restore("two")
    new = upgraded.current()
    upgraded.root('cd "$1"; mv "$2" by-hand; rm glite; ln -s by-hand glite; chown -h pilot glite', _TOP, new)
    upgraded.save("by-hand")
    for _ in cut_everywhere(upgraded, "by-hand", "deploy", "--adopt"):
        assert upgraded.current() in ("by-hand", new)
        upgraded.job_runs()
        finish(upgraded, "deploy", "--adopt")
        assert upgraded.current() == new
    upgraded.all_as_installed()


def test_rollback_cut_anywhere_leaves_a_version_that_works_and_the_next_one_finishes(upgraded: Range) -> None:
    upgraded.restore("one")
    old = upgraded.current()
    for _ in cut_everywhere(upgraded, "two", "rollback"):
        upgraded.job_runs()
        finish(upgraded, "rollback", "--to", old.partition("/")[2])
        assert upgraded.current() == old
    upgraded.all_as_installed()


def test_gc_cut_anywhere_leaves_the_current_version_and_the_next_one_finishes(upgraded: Range) -> None:
    upgraded.restore("two")
    # Two more versions, of which one becomes superfluous and one is in between.
    for number in (1, 2):
        LabSite(_SITE, batch={"settings": {"bosco_test": str(number)}}).add(upgraded.lab)
        upgraded.command("deploy", check=True)
    upgraded.root('mkdir -p "$1/versions/.staging-x/tree"; touch "$1/.glite-x"; chown -R pilot "$1"', _TOP)
    upgraded.save("four")
    for _ in cut_everywhere(upgraded, "four", "gc", "--keep", "1"):
        upgraded.job_runs()
        finish(upgraded, "gc", "--keep", "1")
        assert len(upgraded.root('ls -A "$1/versions"', _TOP).split()) == 2
    upgraded.all_as_installed()


def test_remove_cut_anywhere_is_finished_by_the_next_one(upgraded: Range) -> None:
    for _ in cut_everywhere(upgraded, "two", "remove"):
        if upgraded.current():
            upgraded.job_runs()
            upgraded.idle()
        finish(upgraded, "remove")
        assert upgraded.root('ls -A "$1" 2>/dev/null || :', _TOP) == ""
    LabSite(_SITE, install={"htcondor": {"root": OTHER_ROOT}}).add(upgraded.lab)
    status = break_at(upgraded, "two", 2, "cut", "remove")
    upgraded.cuts.append("remove: cut at step 2, then deploy")
    assert status == 3
    finish(upgraded, "deploy")
    upgraded.job_runs()
    upgraded.all_as_installed()


@pytest.fixture
def small_disk(upgraded: Range) -> Iterator[None]:
    """The install folder is a file system of its own. Workers do not see it, so only submission can be tried."""
    size = f"size={_DISK_MB}m,mode=0755,uid=2001,gid=2001"
    upgraded.root('mkdir -p "$1"; mount -t tmpfs -o "$2" tmpfs "$1"', _TOP, size)
    yield
    upgraded.root('umount -l "$1"', _TOP)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize(("state", "verb"), [("one", "deploy"), ("two", "rollback"), ("four", "gc"), ("two", "remove")])
def test_disk_that_is_full_from_a_step_on_breaks_nothing(upgraded: Range, state: str, verb: str) -> None:
    LabSite(_SITE, install={"htcondor": {"root": OTHER_ROOT}}).add(upgraded.lab)
    steps = steps_of(upgraded, state, verb)
    for at, kind in steps[:: max(1, len(steps) // 5)]:
        status = break_at(upgraded, state, at, "fill", verb)
        upgraded.cuts.append(f"{verb}: disk full at step {at}: {kind}")
        # What needs no space succeeds: a full disk is what gc is for.
        assert status in ((0, 3) if verb == "deploy" else (0,)), upgraded.cuts[-1]
        if verb != "remove":
            upgraded.job_runs()
        upgraded.root('rm -f "$1/filler"', _TOP)
        upgraded.idle()
        finish(upgraded, verb, *(("--to", upgraded.current()[9:]) if verb == "rollback" else ()))
        if verb != "remove":
            upgraded.all_as_installed()


@pytest.mark.parametrize("shift", ["+400d", "-400d"])
def test_clock_that_is_far_off_breaks_nothing(upgraded: Range, shift: str) -> None:
    upgraded.restore("one")
    old = upgraded.current()
    upgraded.lab.write_file("login", f"{_CUTS}/clock", shift)
    LabSite(_SITE, install={"htcondor": {"root": OTHER_ROOT}}).add(upgraded.lab)
    for verb in ("deploy", "rollback", "gc"):
        upgraded.lab.write_file("login", f"{_CUTS}/clock", shift)
        upgraded.cuts.append(f"{verb}: clock {shift}")
        finish(upgraded, verb)
        upgraded.root('rm -f "$1"', f"{_CUTS}/clock")
        upgraded.job_runs()
        upgraded.all_as_installed()
    assert upgraded.current() == old
    # And with the right clock again, the way forward.
    finish(upgraded, "rollback")
    assert upgraded.current() != old
    upgraded.idle()
    upgraded.lab.write_file("login", f"{_CUTS}/clock", shift)
    upgraded.cuts.append(f"remove: clock {shift}")
    finish(upgraded, "remove")
    upgraded.root('rm -f "$1"', f"{_CUTS}/clock")
    assert upgraded.root('ls -A "$1" 2>/dev/null || :', _TOP) == ""
    finish(upgraded, "deploy")


def test_jobs_go_through_the_entry_when_all_is_over(upgraded: Range) -> None:
    result = upgraded.site.test(upgraded.lab)
    assert result["passed"], result
