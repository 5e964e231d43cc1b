# SPDX-License-Identifier: Apache-2.0
"""The batch job's wrapper of a closed site: real sshd, squid, proxychains, firewall and apptainer."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from tests.lab import rootfs
from tests.lab.settings import APPTAINER_RECIPE, PROFILES, Settings
from tests.pilot import debian_node, tunnel_world
from tests.pilot.conftest import REPOSITORY
from tests.pilot.node import Node, machine_lacks
from tests.pilot.tunnel_world import PAGE, QUICK, TARGET, World, wait_for

MAKE_IMAGE = "/srv/gwms-bosco/tests/pilot/make_image.sh"
PRELOAD = "/usr/lib/x86_64-linux-gnu/libproxychains.so.4"
OTHER = "/usr/lib/x86_64-linux-gnu/libm.so.6"
BUILD_S = 120.0
RUN_S = 90.0
HOST, _, PORT = TARGET.partition(":")
GET = f"exec 3<>/dev/tcp/{HOST}/{PORT} && printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3 | tail -n 1"
NO_NETWORK = {"KIND": "none", "CONTAINER": "none", "DNS": "False", "PAYLOADS": "False", "CVMFS_REQUIRED": "False"}
# What the wrapper adds, and what any bash changes.
ADDED = ("GWMS_BOSCO_EGRESS_", "PROXYCHAINS_", "LD_PRELOAD", "_", "SHLVL")


class Site:
    """A bundle's egress folder on the worker, and how a batch job starts its wrapper."""

    def __init__(self, folder: Path, world: Optional[World] = None) -> None:
        self.folder, self.world = folder, world
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        self.tmp = folder / "tmp"
        self.tmp.mkdir()
        self.tmp.chmod(0o1777)
        self.bundle = folder / "egress"
        self.bundle.mkdir(exist_ok=True)
        self.wrapper = self.bundle / "job_wrapper"
        self.wrapper.write_bytes(pack_script("job_wrapper", read_sources(default_scripts_dir())))
        self.wrapper.chmod(0o755)

    def conf(self, **lines: str) -> None:
        """Write egress.conf of a site without a network block."""
        lines = {**NO_NETWORK, "BOSCO_DIR": "bosco", "SITE": "T2_XX_Test", **lines}
        (self.bundle / "egress.conf").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))

    def closed(self, kind: str = "http-connect", **lines: str) -> None:
        """Write the one of a closed site."""
        assert self.world is not None
        more = {"PRELOAD": PRELOAD, "PAYLOADS": "True", "BOSCO_DIR": "bosco", "MAX_DOWN_S": "300", "CONTAINER": "none"}
        self.world.conf(kind, **{**more, **lines})

    def start(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a pilot by the wrapper; in a process group of its own."""
        words = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home), "TMPDIR": str(self.tmp),
            "GWMS_BOSCO_RECORDS": str(self.tmp), "GWMS_BOSCO_TUNNEL_TMP": str(self.tmp), **QUICK, **env,
        }  # fmt: skip
        argv = [str(self.wrapper), *command]
        if self.world is not None:
            return self.world.worker.start(argv, words)
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env=words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)

    def run(self, *command: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        """Run one to its end."""
        process = self.start(*command, **env)
        out, err = process.communicate(stdin, RUN_S)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @property
    def log(self) -> str:
        """What stands in the log on the shared home."""
        return "".join(path.read_text() for path in sorted((self.home / "bosco/log/egress").glob("*.log")))

    @property
    def left(self) -> list[str]:
        """What is left of pilots, but for the folder of records."""
        names = [path.name for path in self.tmp.iterdir() if not re.fullmatch(r"gwms-bosco-[0-9]+", path.name)]
        return names + [path.name for path in (self.home / "bosco/pilots").glob("*")]


@pytest.fixture
def plain(tmp_path: Path) -> Site:
    """A site that needs nothing before the pilot."""
    site = Site(tmp_path)
    site.conf()
    return site


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    lacking = tunnel_world.lacking()
    if lacking or not Path(PRELOAD).exists():
        pytest.skip(f"this machine has no {lacking or PRELOAD}")
    with tunnel_world.running(tmp_path) as found:
        found.logins[0].start()
        yield found


@pytest.fixture
def site(tmp_path: Path, world: World) -> Site:
    return Site(tmp_path, world)


@pytest.mark.parametrize("code", [0, 1, 3, 127, 137, 255])
def test_exit_code_and_streams_are_the_pilots(plain: Site, code: int) -> None:
    done = plain.run("bash", "-c", f"cat; echo err >&2; exit {code}", stdin=b"in\0\xff")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"in\0\xff", b"err\n")
    assert plain.left == []


def test_killed_pilot_is_137(plain: Site) -> None:
    assert plain.run("bash", "-c", "kill -9 $$").returncode == 137


def test_arguments_pass_unchanged(plain: Site) -> None:
    words = ["a b", "", "'", '"', "$HOME", "$(id)", "`id`", "a\nb\n", "*", "-n", "\\", "ä"]
    done = plain.run("bash", "-c", 'printf "%s\\0" "$@"', "bash", *words)
    assert done.stdout.decode().split("\0")[:-1] == words


def test_environment_is_the_batch_jobs(plain: Site) -> None:
    odd = {"a.b": "1", "pid": "5", "rc": "x", "LC_ALL": "C.UTF-8", "name": "n", "ODD": "a 'b' $(id)\nc", "EMPTY": "",
           "X509_USER_PROXY": "/p", "BASH_FUNC_f%%": "() {  echo f\n}", "image": "i", "SHLVL": "4"}  # fmt: skip
    done = plain.run("env", "-0", stdin=b"", **odd)
    found = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    assert {name: found.get(name) for name in odd} == odd
    assert {name for name in found if name not in odd and name.startswith(ADDED)} <= {"GWMS_BOSCO_EGRESS_JOB", "_"}


def test_no_descriptor_of_the_wrapper_reaches_the_pilot(plain: Site) -> None:
    # The shell's own look at the folder is one that is closed again.
    done = plain.run("bash", "-c", "for fd in /proc/$$/fd/*; do [[ ! -e $fd ]] || echo ${fd##*/}; done")
    assert done.stdout.split() == [b"0", b"1", b"2"]


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
def test_signals_reach_the_pilot_which_ends_in_its_own_time(plain: Site, name: str, group: bool) -> None:
    process = plain.start(
        "bash", "-c", f"trap 'sleep 0.3; echo got; exit 255' {name}; echo up; while :; do sleep 0.1; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    (os.killpg if group else os.kill)(process.pid, getattr(signal, f"SIG{name}"))
    out, _ = process.communicate(timeout=RUN_S)
    assert (process.returncode, out) == (255, b"got\n")
    assert plain.left == []


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("name", ["TERM", "XCPU"])
def test_exit_code_of_a_pilot_that_ends_at_once_is_kept(plain: Site, name: str, group: bool) -> None:
    """It may end in the instant in which the wrapper has the signal too."""
    for _ in range(12):
        process = plain.start("bash", "-c", f"trap 'exit 42' {name}; echo up; while :; do sleep 0.01; done")
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        (os.killpg if group else os.kill)(process.pid, getattr(signal, f"SIG{name}"))
        process.communicate(timeout=RUN_S)
        assert process.returncode == 42


def test_marker_says_that_a_pilot_runs(plain: Site) -> None:
    process = plain.start("bash", "-c", "echo up; read -r line")
    assert process.stdout is not None
    process.stdout.readline()
    (marker,) = (plain.home / "bosco/pilots").iterdir()
    assert marker.name.startswith(f"{os.uname().nodename}.{process.pid}.")
    assert marker.name.endswith(".batch")
    process.communicate(b"\n", RUN_S)
    assert plain.left == []


def test_a_killed_wrapper_leaves_nothing_running(plain: Site) -> None:
    """Neither the pilot nor what has left its family; what lies on the node goes with them."""
    script = "setsid setsid sleep 611 & sleep 612 & trap '' TERM; echo up; while :; do sleep 0.1; done"
    process = plain.start("bash", "-c", script)
    assert process.stdout is not None
    process.stdout.readline()
    marked = f"GWMS_BOSCO_EGRESS_JOB={plain.tmp}".encode()

    def running() -> bool:
        for file in Path("/proc").glob("[0-9]*/environ"):
            try:
                if marked in file.read_bytes():
                    return True
            except OSError:
                continue
        return False

    assert running()
    process.kill()
    wait_for(lambda: not running(), "pilot and descendants are gone")
    process.communicate(timeout=RUN_S)
    wait_for(lambda: plain.left == [], "files are gone")


def test_the_next_start_removes_what_a_whole_killed_job_left(plain: Site) -> None:
    process = plain.start("bash", "-c", "echo up; read -r line")
    assert process.stdout is not None
    process.stdout.readline()
    # The guard is in the group too: nobody is left to tidy up.
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=RUN_S)
    (folder,) = plain.tmp.glob("gwms-bosco-job-*")
    assert plain.run("true").returncode == 0
    assert not folder.exists()


HOSTILE = {
    "blank": "SITE=a b", "quote": "SITE=a'b", "command": "IMAGE=/a$(touch x)", "backtick": "IMAGE=/`id`",
    "no-key": "hello", "lower": "kind=none", "nul": "SITE=a\0b", "twice": "KIND=none", "kind": "AUTH=magic",
    "climbs": "IMAGE=/a/../b", "long": f"SITE={'a' * 5000}", "large": f"SITE={'a' * 65536}", "number": "MAX_DOWN_S=-1",
    "cr": "SITE=T2\r", "rung": "CVMFS_RUNGS=parrot", "network": "LOCALNETS=10.0.0.0/8;id",
}  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_refuses_hostile_lines_of_egress_conf(plain: Site, line: str) -> None:
    plain.conf()
    path = plain.bundle / "egress.conf"
    lines = path.read_bytes().replace(b"SITE=T2_XX_Test\n", b"")
    path.write_bytes(lines + line.encode() + b"\n")
    done = plain.run("touch", str(plain.folder / "ran"))
    assert done.returncode == 1
    assert b"job_wrapper: BOSCO-EGRESS-01 " in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not (plain.folder / "ran").exists()
    assert plain.left == []


def test_without_egress_conf_there_is_no_pilot(plain: Site) -> None:
    (plain.bundle / "egress.conf").unlink()
    done = plain.run("echo", "ran")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"BOSCO-EGRESS-01" in done.stderr


@pytest.mark.parametrize("kind", ["http-connect", "socks5", "ssh"])
def test_pilot_reaches_outside_through_the_firewall(site: Site, world: World, kind: str) -> None:
    {"http-connect": world.squid, "socks5": world.microsocks, "ssh": world.egress_sshd}[kind]()
    site.closed(kind)
    # What the batch job preloads itself stays before ours.
    told = '; echo "$LD_PRELOAD $GWMS_BOSCO_EGRESS_WEB_PROXY $OSG_SQUID_LOCATION"'
    done = site.run("bash", "-c", GET + told, LD_PRELOAD=OTHER, OSG_SQUID_LOCATION="UNAVAILABLE")
    page, rest = done.stdout.splitlines()
    assert page + b"\n" == PAGE, done.stderr
    assert rest.split()[0] == f"{OTHER}:{PRELOAD}".encode()
    assert rest.split()[1].startswith(b"http://10.78.0.31" if kind == "socks5" else b"http://127.0.0.1:")
    assert b"http://" + rest.split()[2] == rest.split()[1]
    wait_for(lambda: not world.worker.processes() and site.left == [], "all is gone")


def test_forwards_that_cannot_be_reached_are_named_with_the_reason(site: Site, world: World) -> None:
    world.squid()
    site.closed(FORWARDS=f"pool={TARGET},shut=10.78.0.31:9999,unknown=no.such.name:80")
    done = site.run("echo", "ran")
    assert (done.returncode, done.stdout) == (0, b"ran\n")
    (line,) = [line for line in done.stderr.decode().splitlines() if "BOSCO-EGRESS-09" in line]
    assert "shut (10.78.0.31:9999): the egress proxy refuses it or cannot reach it" in line
    assert "unknown (no.such.name:80)" in line
    assert "pool" not in line
    assert "BOSCO-EGRESS-09" in site.log


def test_without_the_pool_there_is_no_pilot(site: Site, world: World) -> None:
    world.squid()
    site.closed(FORWARDS=f"pool=10.78.0.31:9999,web={TARGET}")
    done = site.run("echo", "ran")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"BOSCO-EGRESS-08" in done.stderr
    assert b"pool (10.78.0.31:9999)" in done.stderr
    wait_for(lambda: not world.worker.processes() and site.left == [], "all is gone")


def test_libraries_that_do_not_fit_are_skipped(site: Site, world: World, tmp_path: Path) -> None:
    """One is not there, one is no library, one is of another architecture."""
    world.squid()
    (tmp_path / "text.so").write_text("hello")
    wrong = bytearray(Path(PRELOAD).read_bytes())
    wrong[18] = 0xB7
    (tmp_path / "arm.so").write_bytes(wrong)
    first = [str(tmp_path / name) for name in ("none.so", "text.so", "arm.so")]
    site.closed(PRELOAD=",".join([*first, PRELOAD]))
    done = site.run("bash", "-c", 'echo "$GWMS_BOSCO_EGRESS_PRELOAD"')
    assert done.stdout.decode() == f"{PRELOAD}\n", done.stderr
    site.closed(PRELOAD=",".join(first))
    done = site.run("echo", "ran")
    assert (done.returncode, done.stdout) == (1, b"")
    for part in ("BOSCO-EGRESS-07", "none.so: is not there", "text.so: ERROR: ld.so", "arm.so: ERROR: ld.so"):
        assert part in done.stderr.decode()


def test_static_programs_are_named(site: Site, world: World, tmp_path: Path) -> None:
    world.squid()
    programs = tmp_path / "programs"
    programs.mkdir()
    # Debian links this one statically.
    source = "/sbin/ldconfig"
    if b"static" not in subprocess.run(["file", "-L", source], stdout=subprocess.PIPE, check=True).stdout:
        pytest.skip("this machine has no static ldconfig")
    shutil.copy(source, programs / "wget")
    site.closed()
    done = site.run("true", PATH=f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    assert "BOSCO-EGRESS-10" in done.stderr.decode()
    assert "wget (static)" in done.stderr.decode()


def test_no_tunnel_is_said_and_ends_in_time(site: Site, world: World) -> None:
    world.squid()
    (world.folder / "keys").write_text("")
    site.closed()
    done = site.run("echo", "ran")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"BOSCO-EGRESS-03 no tunnel: login refused" in done.stderr
    assert site.left == []


def test_job_without_a_way_out_stays_and_keeps_nothing(site: Site, world: World) -> None:
    """A site whose jobs end at once is sent more of them, each with its refused logins. TERM ends it at once."""
    (world.folder / "keys").write_text("")
    site.closed()
    process = site.start("echo", "ran", GWMS_BOSCO_JOB_STAY_S="600")
    wait_for(lambda: "BOSCO-EGRESS-03" in site.log and site.left == [], "it has given up")
    wait_for(lambda: not world.worker.pids("ssh -F"), "no tunnel is tried")
    logins = world.logins[0].count("Connection from")
    (pid,) = world.worker.pids("job_wrapper", "echo")
    assert process.poll() is None
    world.worker.kill("TERM", pid)
    out, _ = process.communicate(timeout=RUN_S)
    assert (process.returncode, out) == (1, b"")
    assert world.logins[0].count("Connection from") == logins


@pytest.mark.parametrize("env", [{"STAY_S": "1"}, {"STAY_S": "600", "HOW": "hand"}], ids=["in-time", "by-hand"])
def test_stay_of_a_job_without_a_way_out_is_bounded(site: Site, world: World, env: dict[str, str]) -> None:
    (world.folder / "keys").write_text("")
    site.closed()
    done = site.run("echo", "ran", GWMS_BOSCO_JOB_STAY_S=env["STAY_S"], GWMS_BOSCO_PILOT_HOW=env.get("HOW", "batch"))
    assert done.returncode == 1
    assert not world.worker.processes()


def test_term_before_the_pilot_leaves_nothing(site: Site, world: World) -> None:
    """No egress proxy answers: the wrapper is still looking."""
    site.closed()
    process = site.start("echo", "ran")
    wait_for(lambda: list(site.tmp.glob("gwms-bosco-job-*")) and world.worker.pids("ssh -F"), "it has begun")
    process.send_signal(signal.SIGTERM)
    world.worker.kill("TERM", *world.worker.pids("job_wrapper", "echo")[:1])
    out, _ = process.communicate(timeout=RUN_S)
    assert out == b""
    assert process.returncode != 0
    wait_for(lambda: not world.worker.processes() and site.left == [], "all is gone")


def test_kill_of_the_wrapper_takes_tunnel_and_pilot(site: Site, world: World) -> None:
    world.squid()
    site.closed()
    # The wrapper is the parent of its parent.
    script = "read -r _ _ _ wrapper _ </proc/$PPID/stat; echo $wrapper; while :; do sleep 0.1; done"
    process = site.start("bash", "-c", script)
    assert process.stdout is not None
    world.worker.kill("KILL", int(process.stdout.readline()))
    wait_for(lambda: not world.worker.processes(), "nothing runs")
    process.communicate(timeout=RUN_S)
    wait_for(lambda: site.left == [], "files are gone")


@pytest.fixture(scope="session")
def image(session_path: Path) -> Path:
    """A small image file, made once."""
    if machine_lacks():
        pytest.skip(f"this machine has no {machine_lacks()}")
    # More than one file of tests has this fixture.
    folder = Path(tempfile.mkdtemp(prefix="image-", dir=session_path))
    folder.chmod(0o755)
    with debian_node.running(APPTAINER_RECIPE, folder) as node:
        node.run(["bash", MAKE_IMAGE, str(folder / "site.sif")], user=0, deadline_s=BUILD_S).check_returncode()
    return folder / "site.sif"


class ContainedSite(Site):
    """Its worker has apptainer: a node of its own in the worker's network."""

    def __init__(self, folder: Path, world: World, node: Node) -> None:
        super().__init__(folder, world)
        self._node = node
        self.at = str(self.home)
        """Where the node has the home."""
        node.run(["sh", "-c", 'mkdir -p "$1" && mount --bind "$0" "$1"', str(self.home), "/shared/pilot"], user=0)
        # The login node has the account of the node's user.
        (folder / "passwd").write_text(Path("/etc/passwd").read_text() + "pilot:x:2001:2001::/tmp:/bin/sh\n")
        world.login.run("mount", "--bind", str(folder / "passwd"), "/etc/passwd")
        for path in [self.home, *self.home.rglob("*")]:
            os.chown(path, 2001, 2001)

    def prepare(self, *command: str) -> None:
        """Run a command on the node as root, before any pilot."""
        self._node.run(list(command), user=0).check_returncode()

    def start(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """As the node's user."""
        assert self.world is not None
        words = {
            "PATH": "/usr/bin:/bin", "HOME": self.at, "GWMS_BOSCO_RECORDS": str(self.tmp),
            "GWMS_BOSCO_TUNNEL_TMP": str(self.tmp), "TMPDIR": str(self.tmp), **QUICK, **env,
        }  # fmt: skip
        sandbox = self.home / "sandbox"
        sandbox.mkdir(exist_ok=True)
        os.chown(sandbox, 2001, 2001)
        inside = [
            "env",
            "-i",
            "-C",
            f"{self.at}/sandbox",
            *(f"{k}={v}" for k, v in words.items()),
            str(self.wrapper),
            *command,
        ]
        argv = ["nsenter", "-t", str(self.world.worker.pid), "-n", "--", *self._node.argv(inside)]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)


@pytest.fixture
def contained(tmp_path: Path, session_path: Path, world: World) -> Iterator[ContainedSite]:
    # Debian 13's, as the image is of that; the machine's own is of another age.
    settings, recipe = Settings.resolve(), PROFILES["trixie"]
    rootfs.build(settings, recipe)
    shutil.copy(rootfs.rootfs_path(settings, recipe) / "root" / PRELOAD[1:], tmp_path / "libproxychains.so.4")
    with debian_node.running(APPTAINER_RECIPE, session_path) as node:
        yield ContainedSite(tmp_path, world, node)


def container_lines(image: Path, **more: str) -> dict[str, str]:
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    return {"CONTAINER": "pilot", "IMAGE": str(image), "IMAGE_SHA256": digest, "CVMFS_REQUIRED": "False", **more}


def run_script(
    site: Site, text: str, words: Sequence[str] = (), *, siteconf: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """As blahp starts a pilot: a file in a sandbox below the home."""
    script = site.home / "bosco/sandbox/1/cmd"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"#!/bin/bash\n{text}\n")
    script.chmod(0o755)
    for path in (script, *script.parents):
        if path == site.home:
            break
        os.chown(path, 2001, 2001)
    at = site.at if isinstance(site, ContainedSite) else str(site.home)
    return site.run(f"{at}/bosco/sandbox/1/cmd", *words, SITECONFIG_PATH=siteconf)


@pytest.mark.parametrize("home", ["", "/shared/pilot"], ids=["below-tmp", "elsewhere"])
def test_contained_pilot_is_chained_and_sees_nothing_else_of_the_home(
    contained: ContainedSite, world: World, image: Path, tmp_path: Path, home: str
) -> None:
    """The library is the site's, given to the image, and the key of the tunnel is not in there."""
    world.squid()
    (tmp_path / "text.so").write_text("no library")
    contained.closed(PRELOAD=f"{tmp_path}/text.so,{tmp_path}/libproxychains.so.4", **container_lines(image))
    (contained.home / "secret").write_text("x")
    contained.at = home or str(contained.home)
    text = f'{GET}; cat /etc/standin-image; ls "$HOME"; pwd; echo "$HOME"; printf "%s|" "$@"; exit 42'
    done = run_script(contained, text, ["a b", "", "$x", "n\nl"])
    lines = done.stdout.decode().split("\n", 4)
    assert done.returncode == 42, done.stderr
    assert lines[:2] == [PAGE.decode().strip(), "stand-in image"], done.stderr
    assert set(lines[2:4]) == {"bosco", "sandbox"}, done
    assert lines[4] == f"{contained.at}/sandbox\n{contained.at}\na b||$x|n\nl|"
    wait_for(lambda: contained.left == [], "all is gone")


def test_container_alone_without_a_network_block(contained: ContainedSite, image: Path) -> None:
    contained.conf(**container_lines(image))
    done = run_script(contained, "cat /etc/standin-image")
    assert (done.returncode, done.stdout) == (0, b"stand-in image\n"), done.stderr
    wait_for(lambda: contained.left == [], "all is gone")


def test_what_a_contained_pilot_logs_is_on_the_shared_home(contained: ContainedSite, image: Path) -> None:
    """Also of an account's first one, before anybody has made the folder."""
    contained.conf(BOSCO_DIR="bosco", **container_lines(image))
    assert not (contained.home / "bosco/log").exists()
    done = run_script(contained, 'echo "drained" >"$HOME/bosco/log/egress/n1.log"')
    assert (done.returncode, contained.log) == (0, "drained\n"), done.stderr


@pytest.mark.parametrize("place", ["/etc/cvmfs/SITECONF", "/opt/cms/SITECONF"], ids=["its-place", "named"])
def test_siteconf_of_the_node_is_seen_in_the_container(contained: ContainedSite, image: Path, place: str) -> None:
    """A site may prefer it; where readers look, nothing can be changed."""
    make = 'mkdir -p "$0/local" && echo own >"$0/local/hello" && chown -R 2001 "$0"'
    contained.prepare("sh", "-c", make, place)
    contained.conf(**container_lines(image))
    hello = "/etc/cvmfs/SITECONF/local/hello"
    script = f'cat {hello} "$SITECONFIG_PATH/hello"; {{ : >>{hello}; }} 2>/dev/null || echo kept'
    done = run_script(contained, script, siteconf=f"{place}/local")
    assert done.stdout == b"own\nown\nkept\n", done.stderr


def test_siteconf_of_the_node_is_found_without_a_variable(contained: ContainedSite, image: Path) -> None:
    contained.prepare("sh", "-c", "mkdir -p /etc/cvmfs/SITECONF/local && echo own >/etc/cvmfs/SITECONF/local/hello")
    contained.conf(**container_lines(image))
    assert run_script(contained, "cat /etc/cvmfs/SITECONF/local/hello").stdout == b"own\n"


def test_another_image_than_the_sites_is_refused(contained: ContainedSite, image: Path) -> None:
    contained.conf(**container_lines(image, IMAGE_SHA256="0" * 64))
    done = run_script(contained, "echo ran")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"BOSCO-EGRESS-06" in done.stderr


def test_cvmfs_is_made_before_the_container_and_shown_in_it(
    contained: ContainedSite, world: World, image: Path, distribution: Path, tmp_path: Path
) -> None:
    world.squid()
    lines = container_lines(image, CVMFSEXEC=str(distribution), CVMFS_REPOS=REPOSITORY, CVMFS_REQUIRED="True")
    contained.closed(PRELOAD=f"{tmp_path}/libproxychains.so.4", CVMFS_RUNGS="native,userns,fusermount", **lines)
    done = run_script(contained, f"cat /cvmfs/{REPOSITORY}/hello; {GET}")
    assert done.stdout == b"hello from a stand-in repository\n" + PAGE, done.stderr
    wait_for(lambda: contained.left == [], "all is gone")


def test_required_cvmfs_that_is_not_there_is_refused(contained: ContainedSite, image: Path) -> None:
    contained.conf(**container_lines(image, CVMFS_REPOS=REPOSITORY, CVMFS_REQUIRED="True", CVMFS_RUNGS="native"))
    done = run_script(contained, "echo ran")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"BOSCO-EGRESS-05" in done.stderr
    assert contained.left == []
