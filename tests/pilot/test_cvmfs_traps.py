# SPDX-License-Identifier: Apache-2.0
"""Each way in which cvmfsexec, its client and its mounts were seen to lose pilots, and that ours do not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pilot.harness import Pilot
from tests.pilot.node import UID, Faults, Node

MakeNode = Callable[..., Node]
MakePilot = Callable[..., Pilot]
HELLO = "/cvmfs/cms.cern.ch/hello"
DEADLINE_S = 30.0
TRAPPING = 'trap "echo trapped; exit 42" TERM; echo ready; while :; do sleep 0.05; done'


@pytest.fixture
def pilot(node: Node, make_pilot: MakePilot, distribution: Path, mode: str) -> Iterator[Pilot]:
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics.get("mode") == mode, outcome
    yield pilot
    pilot.end()


def processes(node: Node) -> list[str]:
    """Command lines of the user's processes on the node, except those that tests start."""
    listed = node.run(["ps", "-u", str(UID), "-o", "args="], user=0).stdout.decode().splitlines()
    return [line for line in listed if "sleep 600" not in line]


def wait_until(condition: Callable[[], bool]) -> None:
    """Fail when `condition` does not come true in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@pytest.mark.parametrize("rc", [0, 1, 42, 137, 255])
def test_exit_codes_pass(pilot: Pilot, rc: int) -> None:
    assert pilot.payload("sh", "-c", f"exit {rc}").returncode == rc


def test_a_mebibyte_passes_unchanged_through_stdin_and_stdout(pilot: Pilot) -> None:
    data = os.urandom(1 << 20)
    assert pilot.payload("cat", stdin=data).stdout == data


def test_signals_folder_arguments_and_environment_are_the_payloads_own(pilot: Pilot) -> None:
    # As a job wrapper has it; bash would set it.
    env = {"A": "b c\n$(d)", "SHLVL": "1"}
    bare = pilot.node.run(["env"], cwd=pilot.folder, env=env).stdout
    inside = pilot.payload("env", stdin=None, **env).stdout
    assert sorted(set(inside.split(b"\n")) - {b"PWD=" + bytes(pilot.folder)}) == sorted(bare.split(b"\n"))
    assert pilot.payload("pwd").stdout.decode().strip() == str(pilot.folder)
    words = ["a b", "", "*", "$HOME", "\\", "'\"", "x=y", "\n"]
    assert pilot.payload("printf", "%s|", *words).stdout.decode() == "|".join(words) + "|"
    look = ("grep", "-E", "^(SigIgn|SigBlk|CapEff|Uid)", "/proc/self/status")
    status = pilot.payload(*look).stdout.decode()
    # What runs the tests may itself have been started with signals ignored.
    usual = pilot.node.run(look).stdout.decode()
    assert re.findall(r"\t([0-9a-f]{16})", status) == re.findall(r"\t([0-9a-f]{16})", usual)
    assert f"Uid:\t{UID}\t{UID}" in status


def test_no_descriptor_of_cvmfsexec_reaches_the_payload(pilot: Pilot) -> None:
    listed = pilot.payload("sh", "-c", "ls /proc/$$/fd").stdout.split()
    assert sorted(int(fd) for fd in listed if int(fd) < 10) == [0, 1, 2]
    assert len(listed) <= 4  # a shell's own script descriptor


def test_a_command_with_an_equals_sign_is_a_command(pilot: Pilot) -> None:
    program = pilot.folder / "a=b"
    program.write_text("#!/bin/sh\necho $1\n")
    program.chmod(0o755)
    assert pilot.payload(str(program), "ran").stdout == b"ran\n"


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_term_runs_the_payloads_trap(pilot: Pilot, group: bool) -> None:
    # The node's own nsenter stands between; TERM is sent from inside.
    target = "kill -TERM -- -$pid" if group else "kill -TERM $pid"
    script = f"setsid {pilot.run_with_cvmfs} bash -c '{TRAPPING}' >out & pid=$!; "
    script += f"until grep -q ready out; do sleep 0.05; done; {target}; wait $pid; echo $?; cat out"
    ended = pilot.node.run(["bash", "-c", script], cwd=pilot.folder)
    assert ended.stdout.split() == [b"42", b"ready", b"trapped"], ended


def test_term_to_the_pilots_group_does_not_end_the_mount(
    node: Node, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    pilot.write("cvmfs_setup")
    # As glidein_startup.sh: the script is its child, in its process group. The trap keeps only the pilot itself alive.
    startup = f"""
        trap : TERM
        echo "GLIDEIN_STARTUP_PID $$" >>glidein_config
        ./cvmfs_setup glidein_config entry </dev/null
        sleep 600 &
        kill -TERM 0
        wait
        ps -A -o pgid=,comm= | awk -v group=$$ '$1 == group' | grep -E 'cvmfs|fuse|unshare'
        {pilot.run_with_cvmfs} cat {HELLO}
    """
    ended = node.run(["setsid", "-w", "bash", "-c", startup], cwd=pilot.folder)
    lines = ended.stdout.decode().splitlines()
    assert lines[0].startswith(f"CVMFS: {mode}"), ended
    assert lines[1].startswith("hello"), ended
    assert len(lines) == 2, ended
    wait_until(lambda: [line for line in processes(node) if "cvmfs" in line] == [])
    pilot.end()


def test_term_to_every_process_of_the_job_leaves_cvmfs_to_the_payloads_trap(
    node: Node, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    """As a batch system that knows all processes of a job does at its time limit."""
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    pilot.write("cvmfs_setup")
    # Long enough that a client which TERM ends is gone.
    cleaning = f"for i in $(seq 40); do sleep 0.05; cat {HELLO} || exit 43; done; exit 42"
    (pilot.folder / "payload").write_text(f"trap '{cleaning}' TERM; echo ready; while :; do sleep 0.05; done")
    # As glidein_startup.sh: it has a trap of its own and waits for what it started.
    startup = f"""
        trap : TERM
        echo "GLIDEIN_STARTUP_PID $$" >>glidein_config
        ./cvmfs_setup glidein_config entry </dev/null
        {pilot.run_with_cvmfs} bash payload & payload=$!
        wait $payload
        while :; do wait $payload; rc=$?; kill -0 $payload 2>/dev/null || break; done
        echo "rc $rc"
    """
    with node.start(["bash", "-c", startup], cwd=pilot.folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"CVMFS: {mode}".encode())
        assert process.stdout.readline() == b"ready\n"
        node.run(["pkill", "-TERM", "-u", str(UID)], user=0).check_returncode()
        out, err = process.communicate(timeout=DEADLINE_S)
    assert out.splitlines()[-1] == b"rc 42", (out, err)
    assert out.count(b"hello") == 40
    wait_until(lambda: processes(node) == [])
    assert not (pilot.folder / "gwms_bosco" / "cvmfs").exists()
    assert b"/gwms_bosco/" not in node.run(["cat", "/proc/self/mountinfo"]).stdout
    pilot.end()


def test_everything_is_taken_down_when_the_pilot_is_killed(pilot: Pilot) -> None:
    mounts = pilot.node.run(["cat", "/proc/self/mountinfo"]).stdout
    pilot.end()
    wait_until(lambda: processes(pilot.node) == [])
    assert not (pilot.folder / "gwms_bosco" / "cvmfs").exists()
    left = pilot.node.run(["cat", "/proc/self/mountinfo"]).stdout
    assert b"/gwms_bosco/" not in left, mounts
    assert pilot.node.run(["ls", "/tmp/gwms-bosco-2001"]).stdout == b""
    assert pilot.payload("true").returncode == 125


def test_what_a_killed_pilot_and_its_holder_left_is_removed_by_the_next(
    pilot: Pilot, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    holder = pilot.node.run(["pgrep", "-f", "gwms_bosco/cvmfs-holder"]).stdout.split()[0].decode()
    pilot.node.run(["kill", "-9", holder])
    pilot.end()
    record = pilot.node.run(["ls", "/tmp/gwms-bosco-2001"]).stdout
    assert record
    stranger = pilot.node.run(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]).stdout.decode().strip()
    following = make_pilot(pilot.node, "next", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    outcome = following.run("cvmfs_setup")
    assert "removed what the killed pilot" in outcome.stdout
    assert following.payload("cat", HELLO).returncode == 0
    assert not (pilot.folder / "gwms_bosco" / "cvmfs").exists()
    mounts = pilot.node.run(["cat", "/proc/self/mountinfo"]).stdout.decode()
    assert str(pilot.folder) + "/" not in mounts
    assert pilot.node.run(["kill", "-0", stranger]).returncode == 0
    following.end()


def test_two_pilots_on_a_node_do_not_touch_each_other(
    pilot: Pilot, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    second = make_pilot(pilot.node, "second", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    assert second.run("cvmfs_setup").metrics["mode"] == mode
    assert pilot.payload("cat", HELLO, "/etc/hostname").returncode == 0
    assert pilot.published()["GWMS_BOSCO_CVMFS_CACHE"] != second.published()["GWMS_BOSCO_CVMFS_CACHE"]
    pilot.end()
    wait_until(lambda: not (pilot.folder / "gwms_bosco" / "cvmfs").exists())
    assert second.payload("cat", HELLO).returncode == 0
    second.end()


def test_the_distribution_is_shared_and_not_written(pilot: Pilot, distribution: Path) -> None:
    place = pilot.folder / "gwms_bosco" / "cvmfs"
    assert (place / "dist" / "usr").readlink() == distribution / "dist" / "usr"
    assert not (distribution / "mnt").exists()
    assert not list((distribution / "dist").glob("var/**/*"))


def test_the_stop_word_ends_it(pilot: Pilot) -> None:
    pilot.node.run(["sh", "-c", f"echo stop >{pilot.folder}/gwms_bosco/cvmfs/control"])
    wait_until(lambda: processes(pilot.node) == [])


def test_a_closed_stdin_is_not_handed_to_cvmfsexec(
    node: Node, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    direct = node.run(["sh", "-c", f"{distribution}/cvmfsexec cms.cern.ch -- true <&-"])
    assert b"Bad file descriptor" in direct.stderr
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    pilot.write("cvmfs_setup")
    ended = node.run(["sh", "-c", "exec ./cvmfs_setup glidein_config entry <&-"], cwd=pilot.folder)
    assert ended.stdout.startswith(f"CVMFS: {mode}".encode()), ended
    # A payload without one has none, as it would without us.
    closed = node.run(["sh", "-c", f"{pilot.run_with_cvmfs} cat {HELLO} <&-"], cwd=pilot.folder)
    assert closed.stdout.startswith(b"hello"), closed
    pilot.end()


@pytest.fixture
def masked(node: Node) -> Node:
    """A node whose /proc looks as docker leaves it: cvmfsexec then makes no PID name space."""
    node.run(["mount", "--bind", "/proc/sys", "/proc/sys"], user=0).check_returncode()
    return node


def test_without_a_pid_name_space_it_works_and_nothing_stays(
    masked: Node, make_pilot: MakePilot, distribution: Path
) -> None:
    pilot = make_pilot(masked, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS="userns")
    outcome = pilot.run("cvmfs_setup")
    assert outcome.metrics.get("mode") == "userns", outcome
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    own = masked.run(["readlink", "/proc/self/ns/pid"]).stdout
    client = masked.run(["pgrep", "-n", "squashfuse"]).stdout.decode().strip()
    assert masked.run(["readlink", f"/proc/{client}/ns/pid"]).stdout == own
    pilot.end()
    wait_until(lambda: processes(masked) == [])
    assert not (pilot.folder / "gwms_bosco" / "cvmfs").exists()


def test_without_a_pid_name_space_the_next_pilot_removes_what_a_killed_holder_left(
    masked: Node, make_pilot: MakePilot, distribution: Path
) -> None:
    config = {"GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution), "GWMS_BOSCO_CVMFS_RUNGS": "userns"}
    pilot = make_pilot(masked, **config)
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "userns"
    clients = masked.run(["pgrep", "squashfuse"]).stdout.split()
    masked.run(["pkill", "-9", "-f", "gwms_bosco/cvmfs-holder"])
    pilot.end()
    following = make_pilot(masked, "next", **config)
    assert following.run("cvmfs_setup").metrics.get("mode") == "userns"
    assert following.payload("cat", HELLO).stdout.startswith(b"hello")
    assert not set(clients) & set(masked.run(["pgrep", "squashfuse"]).stdout.split())
    following.end()
    wait_until(lambda: processes(masked) == [])


def test_one_level_of_user_name_spaces_is_refused_before_cvmfsexec_mounts(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path
) -> None:
    node = make_node(Faults(one_level=True))
    assert node.run(["unshare", "-r", "true"]).returncode == 0
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS="userns,fusermount")
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "userns: unshare: unshare failed: No space left on device" in outcome.detail
    assert "fusermount: unshare: unshare failed: No space left on device" in outcome.detail


def test_mode_1_is_refused_where_fusermount_could_not_unmount(
    node: Node, make_pilot: MakePilot, distribution: Path, parrot: Path
) -> None:
    script = """
        mkdir /overlay && mount -t tmpfs overlay /overlay && mkdir /overlay/upper /overlay/work
        mount -t overlay -o lowerdir=/etc,upperdir=/overlay/upper,workdir=/overlay/work overlay /etc && rm /etc/mtab
        cp /dev/.passwd /etc/passwd
    """
    node.run(["bash", "-ec", script], user=0).check_returncode()
    pilot = make_pilot(
        node,
        GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
        GWMS_BOSCO_CVMFS_RUNGS="fusermount,mountrepo",
        GWMS_BOSCO_PARROT=str(parrot),
    )
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "mountrepo: no /etc/mtab: fusermount could not unmount" in outcome.detail
    assert b"/gwms_bosco/" not in node.run(["cat", "/proc/self/mountinfo"]).stdout


def test_with_no_new_privileges_only_the_way_without_fusermount_is_taken(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, parrot: Path
) -> None:
    node = make_node(Faults(no_new_privs=True))
    config = {"GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution), "GWMS_BOSCO_PARROT": str(parrot)}
    refused = make_pilot(node, "refused", GWMS_BOSCO_CVMFS_RUNGS="fusermount,mountrepo", **config)
    outcome = refused.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert outcome.detail.count("(NoNewPrivs)") == 2
    pilot = make_pilot(node, GWMS_BOSCO_CVMFS_RUNGS="fusermount,mountrepo,userns", **config)
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "userns"
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    pilot.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB."""
    if os.geteuid() != 0:
        pytest.skip("a test node needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m,mode=0755", "small", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.usefixtures("small_disk")
def test_a_disk_too_small_for_a_cache_is_refused(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    pilot = make_pilot(
        make_node(), "small/glide", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode
    )
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert re.search(r"only \d+ MB free for the cache in .*/small/glide/gwms_bosco/cvmfs", outcome.detail)
    assert not (pilot.folder / "gwms_bosco" / "cvmfs").exists()
    # RAM has room.
    pilot = make_pilot(
        pilot.node,
        "small/second",
        GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
        GWMS_BOSCO_CVMFS_RUNGS=mode,
        GWMS_BOSCO_CVMFS_CACHE="ram",
    )
    assert pilot.run("cvmfs_setup").metrics.get("mode") == mode
    assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    pilot.end()


def test_a_full_disk_ends_it_with_a_clear_line(
    small_disk: Path, make_node: MakeNode, make_pilot: MakePilot, distribution: Path
) -> None:
    pilot = make_pilot(make_node(), "small/glide", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution))
    pilot.write("cvmfs_setup")
    filled = subprocess.run(["dd", "if=/dev/zero", f"of={small_disk}/filling", "bs=64k"], stderr=subprocess.PIPE)
    assert b"No space left" in filled.stderr
    ended = pilot.node.run(["./cvmfs_setup", "glidein_config", "entry"], cwd=pilot.folder)
    assert ended.returncode == 1
    # What follows is glideinWMS's error_gen.sh, which cannot write either.
    assert ended.stderr.splitlines()[0].startswith(b"BOSCO-CVMFS-02 cannot write the state folder"), ended


def private(distribution: Path, folder: Path, cache: Path) -> Path:
    """A copy of the distribution that uses `cache`."""
    shutil.copytree(distribution, folder, symlinks=True)
    with (folder / "dist" / "etc" / "cvmfs" / "default.local").open("a") as file:
        file.write(f"\nCVMFS_CACHE_BASE={cache}\n")
    subprocess.run(["chown", "-R", f"{UID}:{UID}", folder, cache], check=True)
    return folder


def test_a_cache_shared_by_two_would_die_with_the_first(node: Node, distribution: Path, tmp_path: Path) -> None:
    """What the next test is about, and that it can fail."""
    cache = tmp_path / "shared"
    cache.mkdir()
    one, two = (private(distribution, tmp_path / name, cache) for name in ("one", "two"))
    first = node.start([str(one / "cvmfsexec"), "cms.cern.ch", "--", "sh", "-c", "echo ready; read x"], stdin=True)
    assert first.stdout is not None
    assert first.stdin is not None
    while b"ready" not in first.stdout.readline():
        pass
    read = f"cat {HELLO} >/dev/null && echo ready; read x; while cat {HELLO} >/dev/null; do sleep 0.05; done"
    second = node.start([str(two / "cvmfsexec"), "cms.cern.ch", "--", "sh", "-c", read], stdin=True)
    assert second.stdout is not None
    assert second.stdin is not None
    while b"ready" not in second.stdout.readline():
        pass
    first.communicate(b"\n", timeout=DEADLINE_S)
    _, err = second.communicate(b"\n", timeout=DEADLINE_S)
    assert b"Transport endpoint is not connected" in err


def test_a_pilot_outlives_the_cache_manager_of_another_in_the_same_cache_folder(
    node: Node, make_pilot: MakePilot, distribution: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "caches"
    folder.mkdir()
    os.chown(folder, UID, UID)
    config = {
        "GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution),
        "GWMS_BOSCO_CVMFS_RUNGS": "userns",
        "GWMS_BOSCO_CVMFS_CACHE": f"local:{folder}",
    }
    first, second = make_pilot(node, "first", **config), make_pilot(node, "second", **config)
    for pilot in (first, second):
        assert pilot.run("cvmfs_setup").metrics.get("mode") == "userns"
    assert len(list(folder.iterdir())) == 2
    first.end()
    wait_until(lambda: len(list(folder.iterdir())) == 1)
    assert second.payload("cat", HELLO).stdout.startswith(b"hello")
    second.end()
    wait_until(lambda: list(folder.iterdir()) == [])


def settings(pilot: Pilot) -> str:
    return (pilot.folder / "gwms_bosco" / "cvmfs" / "dist" / "var" / "run" / "cvmfs" / "config.cms.cern.ch").read_text()


def test_settings_survive_a_missing_newline_and_relocation(
    node: Node, make_pilot: MakePilot, distribution: Path
) -> None:
    # Below /var: this is what the scripts of cvmfsexec would move.
    with tempfile.TemporaryDirectory(prefix="gwms-bosco-test-", dir="/var/tmp") as folder:
        os.chown(folder, UID, UID)
        pilot = make_pilot(
            node,
            GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
            GWMS_BOSCO_CVMFS_RUNGS="userns",
            GWMS_BOSCO_CVMFS_CACHE=f"local:{folder}",
            GWMS_BOSCO_CVMFS_PROXY="http://a:3128|http://b:3128;DIRECT",
            GWMS_BOSCO_CVMFS_QUOTA_MB="1000",
        )
        assert pilot.run("cvmfs_setup").metrics.get("mode") == "userns"
        lines = settings(pilot).splitlines()
        assert "CVMFS_HTTP_PROXY=DIRECT" in lines
        assert 'CVMFS_HTTP_PROXY="http://a:3128|http://b:3128;DIRECT"' in lines
        cache = next(line for line in lines if line.startswith("CVMFS_CACHE_BASE="))
        assert cache.startswith(f"CVMFS_CACHE_BASE=/{folder}/gwms-bosco-cache-")
        pilot.end()
        wait_until(lambda: node.run(["ls", folder]).stdout == b"")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no-proxy", "proxy auto-discovery failed"),
        ("silent", "no answer in time"),
        ("no-library", "failed to load cvmfs library"),
        ("no-cache", "cache directory/plugin problem"),
        ("foreign", "cannot execute binary file"),
        ("no-fuse", "failed to exec fusermount3: Permission denied"),
        ("dies", "cms.cern.ch: "),
    ],
)
def test_a_client_that_fails_or_hangs_is_given_up_with_its_reason(
    node: Node, make_pilot: MakePilot, distribution: Path, fault: str, reason: str, mode: str
) -> None:
    with (distribution / "dist" / "etc" / "cvmfs" / "default.conf").open("a") as config:
        config.write(f"STANDIN_FAULT={fault}\n")
    pilot = make_pilot(node, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    # That it is in time: by its own limits, which tests/shell/lib_cvmfs.bats adds up.
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR")
    assert reason in outcome.detail
    wait_until(lambda: processes(node) == [])
    assert not (pilot.folder / "gwms_bosco" / "cvmfs").exists()


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(fuse="denied"), "Permission denied: /dev/fuse"),
        (Faults(fuse="absent"), "no /dev/fuse"),
        (Faults(userns=False), "unshare: unshare failed: Operation not permitted"),
        (Faults(removed=("unshare",)), "no unshare program"),
        (Faults(removed=("nsenter",)), "no nsenter program"),
    ],
    ids=["closed-device", "no-device", "no-user-name-spaces", "no-unshare", "no-nsenter"],
)
def test_what_the_node_lacks_is_seen_before_cvmfsexec_is_started(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, mode: str, faults: Faults, reason: str
) -> None:
    """Of some it would mount and then fail, of others wait for ever."""
    started = distribution / "started"
    for name in ("cvmfsexec", "mountrepo"):
        (distribution / name).write_text(f"#!/bin/sh\ntouch {started}\n")
    distribution.chmod(0o777)
    pilot = make_pilot(make_node(faults), GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS=mode)
    outcome = pilot.run("cvmfs_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert reason in outcome.detail
    assert not started.exists()


def test_a_second_repository_that_fails_is_not_half_a_success(
    node: Node, make_pilot: MakePilot, distribution: Path, mode: str
) -> None:
    pilot = make_pilot(
        node,
        GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution),
        GWMS_BOSCO_CVMFS_RUNGS=mode,
        GWMS_BOSCO_CVMFS_REPOS="cms.cern.ch,nosuch.cern.ch",
    )
    outcome = pilot.run("cvmfs_setup")
    assert "file catalog failure" in outcome.detail
    wait_until(lambda: processes(node) == [])
    assert b"/gwms_bosco/" not in node.run(["cat", "/proc/self/mountinfo"]).stdout


def test_a_folder_with_white_space_is_refused_before_cvmfsexec_sees_it(
    node: Node, make_pilot: MakePilot, distribution: Path
) -> None:
    pilot = make_pilot(
        node, "with space", GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS="userns,fusermount"
    )
    outcome = pilot.run("cvmfs_setup")
    assert outcome.rc == 1
    assert "white space" in outcome.detail


def test_variables_of_an_outer_cvmfsexec_do_not_make_it_wait(
    node: Node, make_pilot: MakePilot, distribution: Path
) -> None:
    env = {
        "CVMFSEXEC_CMDFD": "12",
        "CVMFSEXEC_WAITFIFO": "/nonexistent",
        "CVMFSMOUNT": "x",
        "TMPDIR": "/nonexistent dir",
    }
    pilot = make_pilot(node, env=env, GWMS_BOSCO_CVMFSEXEC_DIR=str(distribution), GWMS_BOSCO_CVMFS_RUNGS="userns")
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "userns"


HOSTILE = (
    "a b",
    "x'y",
    'x"y',
    "$(touch /tmp/gwms-owned)",
    "`touch /tmp/gwms-owned`",
    "a" * 65536,
    "<&>",
    "../..",
    "a b\n$(touch /tmp/gwms-owned)\n`touch /tmp/gwms-owned`",
)
CHECKED = (
    *(f"GWMS_BOSCO_CVMFS_{name}" for name in ("RUNGS", "REPOS", "REQUIRED", "CACHE", "QUOTA_MB", "PROXY")),
    *(f"GWMS_BOSCO_{name}" for name in ("PARROT", "IMAGE", "CONTAINER", "WEB_PROXY_LIST", "CVMFSEXEC_DIR")),
    *("ENTRY_GWMS_BOSCO_CVMFSEXEC_DIR", "GLIDEIN_STARTUP_PID"),
)


@pytest.mark.parametrize("key", CHECKED)
def test_hostile_values_are_refused_by_name(node: Node, make_pilot: MakePilot, key: str) -> None:
    for number, value in enumerate(HOSTILE):
        pilot = make_pilot(node, f"pilot{number}", **{key: value})
        outcome = pilot.run("cvmfs_setup")
        assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
        assert key in outcome.detail and len(outcome.detail) < 300
    assert not Path("/tmp/gwms-owned").exists()


@pytest.mark.parametrize("key", ["GWMS_BOSCO_CVMFSEXEC_DIR", "ENTRY_GWMS_BOSCO_CVMFSEXEC_DIR", "GWMS_BOSCO_PARROT"])
def test_hostile_paths_lead_nowhere(node: Node, make_pilot: MakePilot, key: str) -> None:
    for number, value in enumerate(HOSTILE):
        pilot = make_pilot(node, f"pilot{number}", **{key: f"/{value}"}, GWMS_BOSCO_CVMFS_RUNGS="userns,parrot")
        outcome = pilot.run("cvmfs_setup")
        assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
        assert len(outcome.detail) < 600
    assert not Path("/tmp/gwms-owned").exists()


@pytest.mark.parametrize(
    "name", ["a b", "x'y", "$(touch gwms-owned)", "`touch gwms-owned`", "x\\y", "x;touch gwms-owned"]
)
def test_a_distribution_in_a_folder_with_a_hostile_name_is_used_or_refused_as_it_is(
    node: Node, make_pilot: MakePilot, distribution: Path, name: str
) -> None:
    distribution.rename(distribution.with_name(name))
    config = {"GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution.with_name(name)), "GWMS_BOSCO_CVMFS_RUNGS": "userns"}
    pilot = make_pilot(node, **config)
    outcome = pilot.run("cvmfs_setup")
    if outcome.rc == 0:
        assert pilot.payload("cat", HELLO).stdout.startswith(b"hello")
    else:
        assert outcome.detail.startswith("BOSCO-CVMFS-03 "), outcome
    assert list(distribution.parent.rglob("gwms-owned")) == []
    pilot.end()


def test_the_check_sees_a_client_that_stopped_answering(pilot: Pilot) -> None:
    assert "GWMS_BOSCO_CVMFS_OK = True\n" in pilot.run("cvmfs_check", periodic=True).stdout
    # Stopped: a read hangs. Killed: the directory is still there.
    pilot.node.run(["pkill", "-STOP", "-u", str(UID), "squashfuse"])
    outcome = pilot.run("cvmfs_check", periodic=True)
    assert outcome.rc == 0
    assert "GWMS_BOSCO_CVMFS_OK = False\n" in outcome.stdout
    assert "no answer in time" in outcome.stdout
    pilot.node.run(["pkill", "-KILL", "-u", str(UID), "squashfuse"])
    assert "GWMS_BOSCO_CVMFS_OK = False\n" in pilot.run("cvmfs_check", periodic=True).stdout
