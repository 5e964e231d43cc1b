# SPDX-License-Identifier: Apache-2.0
"""What a node does to a pilot's /cvmfs: kills any of its processes, signals all, plants links, fills disks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pilot.harness import Pilot
from tests.pilot.node import UID, Faults, Node
from tests.pilot.test_cvmfs_traps import DEADLINE_S, HELLO, processes, wait_until

MakeNode = Callable[..., Node]
MakePilot = Callable[..., Pilot]
RECORDS = f"/tmp/gwms-bosco-{UID}"
HUNG = 137
"""Of `timeout -s KILL`."""


@pytest.fixture
def start(node: Node, make_pilot: MakePilot, distribution: Path, mode: str) -> Callable[..., Pilot]:
    def pilot(name: str, **config: str) -> Pilot:
        made = make_pilot(node, name, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode, **config)
        outcome = made.run("cvmfs_setup")
        assert outcome.metrics.get("mode") == mode, outcome
        return made

    return pilot


def tree(node: Node) -> list[tuple[str, str]]:
    """Number and command line of the processes that keep /cvmfs."""
    listed = node.run(["ps", "-u", str(UID), "-o", "pid=,args="], user=0).stdout.decode().splitlines()
    found = (line.split(None, 1) for line in listed if "sleep 600" not in line)
    return [(pid, words) for pid, words in found]


def left(pilot: Pilot) -> list[str]:
    """What there is of a pilot on its node."""
    mounts = pilot.node.run(["cat", "/proc/self/mountinfo"]).stdout.decode().splitlines()
    found = [line for line in mounts if f"{pilot.folder}/" in line]
    if (pilot.folder / "gwms_bosco" / "cvmfs").exists():
        found.append("place")
    return found


def test_no_killed_process_hangs_a_payload_or_costs_the_next_pilot(node: Node, start: Callable[..., Pilot]) -> None:
    """kill -9 of each process of the tree in turn, then of the pilot."""
    number, count, pilots = 0, 1, []
    while number < count:
        pilot = start(f"p{number}")
        pilots.append(pilot)
        own = [pid for pid, _ in tree(node)]
        count = len(own)
        node.run(["kill", "-9", sorted(own, key=int)[number]], user=0)
        read = pilot.payload("timeout", "-s", "KILL", "20", "cat", HELLO)
        assert read.returncode != HUNG
        pilot.end()
        wait_until(lambda: processes(node) == [])
        number += 1
    last = start("last")
    assert last.payload("cat", HELLO).stdout.startswith(b"hello")
    last.end()
    wait_until(lambda: processes(node) == [])
    assert [left(pilot) for pilot in (*pilots, last)] == [[]] * (len(pilots) + 1)
    assert node.run(["ls", RECORDS]).stdout == b""


def test_no_signal_of_a_batch_system_takes_the_mounts(node: Node, start: Callable[..., Pilot]) -> None:
    pilot = start("glide")
    before = [pid for pid, _ in tree(node)]
    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "XCPU", "ALRM", "PIPE"):
        node.run(["kill", f"-{name}", *before], user=0).check_returncode()
    read = pilot.payload("cat", HELLO)
    assert read.stdout.startswith(b"hello"), read
    assert [pid for pid, _ in tree(node)] == before
    pilot.end()
    wait_until(lambda: processes(node) == [])


def test_a_payload_whose_mounts_die_sees_an_error_and_the_next_one_is_not_started(
    node: Node, start: Callable[..., Pilot]
) -> None:
    pilot = start("glide")
    script = f"echo ready; while timeout -s KILL 20 cat {HELLO} >/dev/null; do sleep 0.05; done; echo gone"
    with node.start([pilot.run_with_cvmfs, "sh", "-c", script], cwd=pilot.folder) as payload:
        assert payload.stdout is not None
        assert payload.stdout.readline() == b"ready\n"
        node.run(["pkill", "-9", "-f", "gwms_bosco/cvmfs-holder"])
        out, err = payload.communicate(timeout=DEADLINE_S)
    assert out == b"gone\n", err
    wait_until(lambda: pilot.payload("true").returncode == 125)
    assert "GWMS_BOSCO_CVMFS_OK = False\n" in pilot.run("cvmfs_check", periodic=True).stdout
    pilot.end()


def test_without_cvmfsexec_no_payload_is_started_among_dead_mounts(node: Node, start: Callable[..., Pilot]) -> None:
    pilot = start("glide")
    (outer,) = [pid for pid, words in tree(node) if re.match(r"\S*bash \S*cvmfsexec -N ", words)][:1]
    node.run(["kill", "-9", outer], user=0).check_returncode()
    wait_until(lambda: pilot.payload("true").returncode == 125)
    pilot.end()
    wait_until(lambda: left(pilot) == [])


def test_mounts_of_mode_1_that_a_kill_left_are_healed_by_the_next_pilot(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, parrot: Path
) -> None:
    """A dead mount cannot be removed, nor mounted over."""
    node = make_node(Faults(userns=False))
    config = {
        "GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution),
        "GWMS_BOSCO_CVMFS_RUNGS": "mountrepo",
        "GWMS_BOSCO_PARROT": str(parrot),
    }
    killed = make_pilot(node, "killed", **config)
    assert killed.run("cvmfs_setup").metrics.get("mode") == "mountrepo"
    node.run(["pkill", "-9", "-f", "cvmfs-holder|squashfuse"])
    killed.end()
    assert left(killed) != []
    following = make_pilot(node, "next", **config)
    assert following.run("cvmfs_setup").metrics.get("mode") == "mountrepo"
    assert following.payload("cat", HELLO).stdout.startswith(b"hello")
    assert left(killed) == []
    following.end()
    wait_until(lambda: processes(node) == [] and left(following) == [])


def test_pilots_that_start_at_once_sweep_and_mount_without_touching_each_other(
    node: Node, start: Callable[..., Pilot], make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    killed = start("killed")
    node.run(["pkill", "-9", "-f", "gwms_bosco/cvmfs-holder"])
    killed.end()
    pilots = [
        make_pilot(node, f"p{n}", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
        for n in range(4)
    ]
    for pilot in pilots:
        pilot.write("cvmfs_setup")
    scripts = [node.start(["./cvmfs_setup", "glidein_config", "entry"], cwd=pilot.folder) for pilot in pilots]
    for script in scripts:
        out, err = script.communicate(timeout=DEADLINE_S)
        assert f"CVMFS: {mode}".encode() in out, (out, err)
    assert left(killed) == []
    while pilots:
        assert [pilot.payload("cat", HELLO).returncode for pilot in pilots] == [0] * len(pilots)
        gone = pilots.pop()
        gone.end()
        wait_until(lambda: left(gone) == [])  # noqa: B023 # called at once


@pytest.mark.parametrize("with_holder", [False, True], ids=["script", "script-and-holder"])
def test_a_pilot_killed_while_the_client_starts_leaves_nothing_to_the_next(
    node: Node, start: Callable[..., Pilot], make_pilot: MakePilot, distribution: Path, mode: str, with_holder: bool
) -> None:
    config = distribution / "dist" / "etc" / "cvmfs" / "default.conf"
    config.write_text("STANDIN_FAULT=silent\n")
    killed = make_pilot(node, "killed", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    killed.write("cvmfs_setup")
    with node.start(["./cvmfs_setup", "glidein_config", "entry"], cwd=killed.folder) as script:
        wait_until(lambda: node.run(["pgrep", "-f", "usr/bin/cvmfs2"]).returncode == 0)
        patterns = ["cvmfs_setup", *(["gwms_bosco/cvmfs-holder"] if with_holder else [])]
        for pattern in patterns:
            node.run(["pkill", "-9", "-f", pattern])
        killed.end()
        script.communicate(timeout=DEADLINE_S)
    config.write_text("")
    following = start("next")
    assert following.payload("cat", HELLO).stdout.startswith(b"hello")
    following.end()
    wait_until(lambda: processes(node) == [])
    assert left(killed) == []
    assert node.run(["ls", RECORDS]).stdout == b""
    assert node.run(["pgrep", "-f", "usr/bin/cvmfs2"]).returncode == 1


def test_the_holder_keeps_nothing_open_that_the_pilot_had(
    node: Node, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    """Whoever reads a pilot's output to its end would wait; and many open files must not be in the way."""
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    pilot.write("cvmfs_setup")
    many = 'for n in $(seq 20 255); do eval "exec $n>&1"; done; ./cvmfs_setup glidein_config entry'
    ended = node.run(["bash", "-c", many], cwd=pilot.folder, deadline_s=DEADLINE_S)
    assert ended.stdout.startswith(f"CVMFS: {mode}".encode()), ended
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    pilot.end()


def test_the_environment_is_neither_believed_nor_changed(
    node: Node, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    hostile = {f"BASH_FUNC_{name}%%": "() {  echo hijacked\n}" for name in ("grep", "readlink", "kill", "mkdir", "rm")}
    env = {
        **hostile,
        "a.b": "odd name",
        "BASH_ENV": "/dev/stdin",
        "GWMS_BOSCO_LADDER_S": "0",
        "gwms_bosco_pause_fd": "0",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "tr_TR.UTF-8",
        "CDPATH": "/",
        "POSIXLY_CORRECT": "1",
        "PATH": "/usr/bin:/bin",
        "SHLVL": "2",
    }
    pilot = make_pilot(node, env=env, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    # error_gen.sh is glideinWMS's and takes functions from the environment.
    outcome = pilot.run("cvmfs_setup")
    assert pilot.config()["GWMS_BOSCO_CVMFS"] == mode, outcome
    bare = node.run(["env"], cwd=pilot.folder, env=env).stdout
    inside = pilot.payload("env", stdin=None, **env).stdout
    assert sorted(set(inside.split(b"\n")) - {b"PWD=" + bytes(pilot.folder)}) == sorted(set(bare.split(b"\n")))
    pilot.end()


@pytest.mark.parametrize("mask", ["000", "077", "777"])
def test_any_umask_will_do(node: Node, make_pilot: MakePilot, distribution: Path, mode: str, mask: str) -> None:
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    pilot.write("cvmfs_setup")
    script = f"umask {mask}; exec ./cvmfs_setup glidein_config entry"
    ended = node.run(["sh", "-c", script], cwd=pilot.folder)
    assert ended.stdout.startswith(f"CVMFS: {mode}".encode()), ended
    assert (pilot.folder / "gwms_bosco").stat().st_mode & 0o777 == 0o700
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    pilot.end()


def test_a_long_folder_is_fine(node: Node, make_pilot: MakePilot, distribution: Path, mode: str) -> None:
    name = "/".join(["d" * 200] * 8)
    pilot = make_pilot(node, "glide", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    folder = pilot.folder.parent / name
    folder.parent.mkdir(parents=True)
    pilot.folder.rename(folder)
    text = (folder / "glidein_config").read_text()
    (folder / "glidein_config").write_text(text.replace(str(pilot.folder), str(folder)))
    pilot.folder = folder
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics.get("mode") == mode, outcome
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    pilot.end()
    wait_until(lambda: processes(node) == [])


def test_records_on_a_full_disk_do_not_cost_the_pilot(node: Node, start: Callable[..., Pilot]) -> None:
    fill = f"mount -t tmpfs -o size=4k,uid={UID},gid={UID},mode=0700 full {RECORDS}; cat /dev/zero >{RECORDS}/full"
    filled = node.run(["sh", "-c", fill], user=0)
    assert b"No space left" in filled.stderr
    pilot = start("glide")
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    pilot.end()
    wait_until(lambda: left(pilot) == [])
    assert node.run(["ls", RECORDS]).stdout == b"full\n"


def test_a_cache_made_before_a_failure_is_removed(
    node: Node, make_pilot: MakePilot, distribution: Path, tmp_path: Path, mode: str
) -> None:
    caches = tmp_path / "caches"
    caches.mkdir()
    os.chown(caches, UID, UID)
    # A folder in the place of the file that is written.
    (distribution / "dist" / "etc" / "cvmfs" / "default.local.new").mkdir()
    pilot = make_pilot(
        node,
        GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
        GWMS_BOSCO_CVMFS_RUNGS=mode,
        GWMS_BOSCO_CVMFS_CACHE=f"local:{caches}",
    )
    outcome = pilot.run("cvmfs_setup")
    assert f"{mode}: cannot write {pilot.folder}" in outcome.detail
    assert list(caches.iterdir()) == []
    assert pilot.config()["GWMS_BOSCO_CVMFS_CACHE"] == "none"
    assert node.run(["ls", RECORDS]).stdout == b""


def test_a_killed_pilot_s_cache_is_found_without_its_record(
    node: Node, start: Callable[..., Pilot], tmp_path: Path
) -> None:
    """As where the record was in a /tmp of the job's own."""
    above = tmp_path / "scratch"
    above.mkdir()
    above.chmod(0o1777)
    killed = start("killed", GWMS_BOSCO_CVMFS_CACHE=f"local:{above}")
    node.run(["pkill", "-9", "-f", "gwms_bosco/cvmfs-holder"])
    killed.end()
    (cache,) = above.iterdir()
    node.run(["sh", "-c", f"rm -f {RECORDS}/*"]).check_returncode()
    following = start("next", GWMS_BOSCO_CVMFS_CACHE=f"local:{above}")
    assert not cache.exists()
    assert len(list(above.iterdir())) == 1
    assert left(killed) == []
    following.end()
    wait_until(lambda: list(above.iterdir()) == [])


def test_a_number_of_no_process_is_not_taken_for_the_pilot(
    node: Node, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    pilot = make_pilot(
        node,
        GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
        GWMS_BOSCO_CVMFS_RUNGS=mode,
        GLIDEIN_STARTUP_PID="4194303",
    )
    pilot.write("cvmfs_setup")
    script = f"./cvmfs_setup glidein_config entry; {pilot.run_with_cvmfs} cat {HELLO}"
    ended = node.run(["bash", "-c", script], cwd=pilot.folder)
    assert re.match(f"CVMFS: {mode}.*\nhello", ended.stdout.decode()), ended
    pilot.end()
    wait_until(lambda: processes(node) == [])


def test_a_cache_folder_that_is_missing_is_made_for_pilots_of_all_users(
    start: Callable[..., Pilot], tmp_path: Path
) -> None:
    above = tmp_path / "scratch"
    above.mkdir()
    above.chmod(0o1777)
    pilot = start("glide", GWMS_BOSCO_CVMFS_CACHE=f"local:{above}/pilots")
    assert (above / "pilots").stat().st_mode & 0o7777 == 0o1777
    (cache,) = (above / "pilots").iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    pilot.end()
    wait_until(lambda: not cache.exists())


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('ln -s /var/tmp "$1/gwms_bosco"', "own folder"),
        ('mkdir "$1/gwms_bosco"', "own folder"),
        (
            'mkdir "$1/gwms_bosco" && mount -t tmpfs -o ro,uid=2001,gid=2001 ro "$1/gwms_bosco"',
            "cannot write the state",
        ),
        (
            'mkdir "$1/gwms_bosco" && mount -t tmpfs -o size=4k,uid=2001,gid=2001 f "$1/gwms_bosco"',
            "cannot write the state",
        ),
    ],
    ids=["link", "of-another-user", "read-only", "full"],
)
def test_a_state_folder_that_cannot_serve_is_refused(
    node: Node, make_pilot: MakePilot, script: str, reason: str
) -> None:
    pilot = make_pilot(node)
    node.run(["sh", "-c", script, "sh", str(pilot.folder)], user=0).check_returncode()
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert outcome.detail.startswith("BOSCO-CVMFS-02 ")
    assert reason in outcome.detail


def test_a_way_that_failed_leaves_no_word_before_the_payload(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, parrot: Path
) -> None:
    """The words of parrot, written for mode 1, with which another way must not start a payload."""
    (distribution / "mountrepo").write_text("#!/bin/sh\necho cannot >&2\nexit 16\n")
    pilot = make_pilot(
        make_node(Faults()),
        GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
        GWMS_BOSCO_CVMFS_RUNGS="mountrepo",
        GWMS_BOSCO_PARROT=str(parrot),
        GWMS_BOSCO_CVMFS_REQUIRED="False",
    )
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "none"
    assert not (pilot.folder / "gwms_bosco" / "prefix").exists()
