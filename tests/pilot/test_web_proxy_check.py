# SPDX-License-Identifier: Apache-2.0
"""proxy_check: measures in rounds, steps back when the proxy degrades, returns when it has recovered."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.pilot import web_servers
from tests.pilot.harness import Pilot
from tests.pilot.node import UID, Faults, Node
from tests.pilot.web_servers import FaultyProxy
from tests.pilot.web_world import REPOSITORY, World, conf

BAD_ROUNDS, GOOD_ROUNDS = 3, 2
STANDINS = Path(__file__).with_name("standins")


class Scene:
    """A site with its own proxy, perhaps a second one, and a backup; the pilot has taken the first."""

    def __init__(self, world: World, second: str = "", **config: str) -> None:
        self.world = world
        self.own, self.near = world.proxy(), world.proxy()
        backup = config.pop("backup", self.near.url)
        site = f"{self.own.url},{second}" if second else self.own.url
        self.pilot = world.pilot(None, GWMS_BOSCO_WEB_PROXIES=site, GWMS_BOSCO_WEB_PROXY_BACKUP=backup, **config)
        assert self.pilot.run("proxy_setup").rc == 0

    def round(self) -> dict[str, str]:
        """One round; what it publishes."""
        outcome = self.pilot.run("proxy_check", periodic=True)
        assert (outcome.rc, outcome.status) == (0, "OK"), outcome
        lines = [line.partition(" = ") for line in outcome.stdout.splitlines()]
        assert all(name.startswith("GWMS_BOSCO_WEB_PROXY") and equals for name, equals, _ in lines), outcome.stdout
        return {name[len("GWMS_BOSCO_WEB_PROXY") :].lstrip("_"): value.strip('"') for name, _, value in lines}

    def rounds(self, count: int) -> dict[str, str]:
        for _ in range(count):
            last = self.round()
        return last


@pytest.fixture
def world(make_node: Callable[..., Node], tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(make_node(Faults()), tmp_path, stack)


def test_publishes_what_it_measures(world: World) -> None:
    scene = Scene(world)
    said = scene.round()
    assert (said[""], said["STATE"], said["ERRORS"], said["WHY"]) == (scene.own.url, "main", "0", "none")
    assert int(said["LATENCY_MS"]) >= 0
    assert int(said["CHECKED"]) > 1_000_000_000
    assert scene.near.requests == []


def test_asks_nothing_among_the_scripts_of_the_start(world: World) -> None:
    scene = Scene(world)
    before = len(scene.own.requests)
    outcome = scene.pilot.run("proxy_check")
    assert (outcome.rc, outcome.status, outcome.stdout) == (0, "OK", "")
    assert len(scene.own.requests) == before


@pytest.mark.parametrize("fault", ["portal", "slow"])
def test_steps_back_and_returns(world: World, fault: str) -> None:
    scene = Scene(world, GWMS_BOSCO_WEB_PROXY_MAX_LATENCY_MS="250")
    scene.own.delay_s = 0.4
    scene.own.fault = fault
    said = scene.rounds(BAD_ROUNDS - 1)
    assert (said["STATE"], said["ERRORS"]) == ("main", str(BAD_ROUNDS - 1))
    if fault == "slow":
        assert int(said["LATENCY_MS"]) >= 400
    said = scene.round()
    assert (said[""], said["STATE"]) == (scene.near.url, "backup")
    assert (conf(scene.pilot)["LIST"], conf(scene.pilot)["FRONTIER"]) == (scene.near.url, scene.near.url)
    assert scene.round()["STATE"] == "backup"
    scene.own.fault = ""
    assert scene.rounds(GOOD_ROUNDS - 1)["STATE"] == "backup"
    said = scene.round()
    assert (said[""], said["STATE"], said["ERRORS"]) == (scene.own.url, "main", str(BAD_ROUNDS))
    assert conf(scene.pilot)["LIST"] == f"{scene.own.url};{scene.near.url}"
    assert conf(scene.pilot)["SOURCE"] == "site"


def test_a_good_round_between_bad_ones_starts_the_count_anew(world: World) -> None:
    scene = Scene(world)
    for fault in ("portal", "portal", "", "portal", "portal"):
        scene.own.fault = fault
        assert scene.round()["STATE"] == "main"


def test_a_bad_round_between_good_ones_keeps_it_away(world: World) -> None:
    scene = Scene(world)
    scene.own.fault = "portal"
    assert scene.rounds(BAD_ROUNDS)["STATE"] == "backup"
    for fault in ("", "portal", "", "portal"):
        scene.own.fault = fault
        assert scene.round()["STATE"] == "backup"


def test_stays_where_nothing_else_passes(world: World) -> None:
    scene = Scene(world)
    scene.own.fault = scene.near.fault = "portal"
    said = scene.rounds(BAD_ROUNDS + 1)
    assert (said[""], said["STATE"], said["ERRORS"]) == (scene.own.url, "main", str(BAD_ROUNDS + 1))
    assert said["WHY"].endswith("nothing else passes")
    scene.near.fault = ""
    assert scene.round()["STATE"] == "backup"


def test_goes_on_to_another_backup(world: World) -> None:
    other = world.proxy()
    scene = Scene(world, backup=f"{(first := world.proxy()).url},{other.url}")
    scene.own.fault = "portal"
    assert scene.rounds(BAD_ROUNDS)[""] == first.url
    first.fault = "portal"
    assert scene.rounds(BAD_ROUNDS)[""] == other.url
    assert conf(scene.pilot)["LIST"] == f"{other.url};{first.url}"


def test_the_sites_second_proxy_comes_before_the_backups(world: World) -> None:
    second = world.proxy()
    scene = Scene(world, second.url)
    pilot = scene.pilot
    assert conf(pilot)["LIST"] == f"{scene.own.url};{second.url};{scene.near.url}"
    scene.own.fault = "portal"
    said = scene.rounds(BAD_ROUNDS)
    assert (said[""], said["STATE"], conf(pilot)["SOURCE"]) == (second.url, "backup", "site")
    assert conf(pilot)["LIST"] == f"{second.url};{scene.near.url}"


@pytest.mark.parametrize("allowed", ["True", "False"])
def test_goes_direct_only_where_allowed(world: World, allowed: str) -> None:
    scene = Scene(world, backup="", GWMS_BOSCO_WEB_PROXY_DIRECT=allowed)
    scene.own.fault = "portal"
    assert scene.rounds(BAD_ROUNDS)["STATE"] == ("direct" if allowed == "True" else "main")
    scene.own.fault = ""
    assert scene.rounds(GOOD_ROUNDS)["STATE"] == "main"


def test_takes_the_first_choice_that_was_dead_when_the_pilot_began(world: World) -> None:
    with FaultyProxy("portal") as own, web_servers.serving(own):
        near = world.proxy()
        pilot = world.pilot(GWMS_BOSCO_WEB_PROXIES=own.url, GWMS_BOSCO_WEB_PROXY_BACKUP=near.url)
        assert pilot.run("proxy_setup").metrics["state"] == "backup"
        own.fault = ""
        for _ in range(GOOD_ROUNDS):
            pilot.run("proxy_check", periodic=True)
        assert (conf(pilot)["STATE"], conf(pilot)["PROXY"]) == ("main", own.url)


@pytest.mark.parametrize("source", ["site", "http-proxy"])
def test_returns_to_the_best_one_that_was_dead_when_the_pilot_began(world: World, source: str) -> None:
    """The one that is taken meanwhile is the site's second, or one that the node names."""
    with FaultyProxy("silent") as own, web_servers.serving(own):
        other, near = world.proxy(), world.proxy()
        named = f"{own.url},{other.url}" if source == "site" else own.url
        pilot = world.pilot(
            {"http_proxy": other.url},
            GWMS_BOSCO_WEB_PROXIES=named,
            GWMS_BOSCO_WEB_PROXY_BACKUP=near.url,
            GWMS_BOSCO_WEB_PROXY_DISCOVER="environment",
        )
        outcome = pilot.run("proxy_setup")
        assert (outcome.metrics["state"], outcome.metrics["source"]) == ("backup", source)
        assert conf(pilot)["LIST"] == f"{other.url};{near.url}"
        own.fault = ""
        for _ in range(GOOD_ROUNDS):
            assert conf(pilot)["PROXY"] == other.url
            pilot.run("proxy_check", periodic=True)
        assert [conf(pilot)[key] for key in ("STATE", "PROXY", "SOURCE")] == ["main", own.url, "site"]


def test_a_tunnel_that_keeps_nothing_stays_the_first_choice(world: World) -> None:
    tunnel = world.proxy("uncached")
    own = world.proxy()
    pilot = world.pilot({"GWMS_BOSCO_EGRESS_WEB_PROXY": tunnel.url}, GWMS_BOSCO_WEB_PROXIES=own.url)
    assert pilot.run("proxy_setup").rc == 0
    for _ in range(BAD_ROUNDS):
        pilot.run("proxy_check", periodic=True)
    assert (conf(pilot)["STATE"], conf(pilot)["PROXY"]) == ("main", tunnel.url)


def test_the_tunnels_proxy_has_those_of_the_site_behind_it(world: World) -> None:
    tunnel, own, near = world.proxy(), world.proxy(), world.proxy()
    env = {"GWMS_BOSCO_EGRESS_WEB_PROXY": tunnel.url}
    pilot = world.pilot(env, GWMS_BOSCO_WEB_PROXIES=own.url, GWMS_BOSCO_WEB_PROXY_BACKUP=near.url)
    assert pilot.run("proxy_setup").rc == 0
    assert conf(pilot)["LIST"] == f"{tunnel.url};{own.url};{near.url}"


def test_returns_from_the_servers_to_a_backup_where_there_is_nothing_else(world: World) -> None:
    with FaultyProxy("portal") as near, web_servers.serving(near):
        pilot = world.pilot(GWMS_BOSCO_WEB_PROXY_BACKUP=near.url, GWMS_BOSCO_WEB_PROXY_DIRECT="True")
        assert pilot.run("proxy_setup").metrics["state"] == "direct"
        near.fault = ""
        for _ in range(GOOD_ROUNDS):
            pilot.run("proxy_check", periodic=True)
        assert (conf(pilot)["STATE"], conf(pilot)["PROXY"]) == ("backup", near.url)


def test_returns_to_the_first_backup_where_there_is_nothing_else(world: World) -> None:
    other = world.proxy()
    with FaultyProxy("") as near, web_servers.serving(near):
        pilot = world.pilot(GWMS_BOSCO_WEB_PROXY_BACKUP=f"{near.url},{other.url}")
        assert pilot.run("proxy_setup").metrics["state"] == "backup"
        assert conf(pilot)["LIST"] == f"{near.url};{other.url}"
        near.fault = "portal"
        for _ in range(BAD_ROUNDS):
            pilot.run("proxy_check", periodic=True)
        assert conf(pilot)["PROXY"] == other.url
        near.fault = ""
        for _ in range(GOOD_ROUNDS):
            pilot.run("proxy_check", periodic=True)
        assert (conf(pilot)["STATE"], conf(pilot)["PROXY"]) == ("backup", near.url)


@pytest.mark.parametrize("junk", ["BAD=1+a[$(touch mark)]\nERRORS=-1\n", "\0\xff", "BAD=" + "9" * 4096 + "\n"])
def test_counts_from_the_start_where_its_notes_are_junk(world: World, junk: str) -> None:
    scene = Scene(world)
    (scene.pilot.folder / "gwms_bosco" / "web_proxy.rounds").write_text(junk)
    said = scene.round()
    assert (said["STATE"], said["ERRORS"]) == ("main", "0")
    assert not list(scene.pilot.folder.rglob("mark"))


def test_says_so_where_the_choice_is_gone(world: World) -> None:
    scene = Scene(world)
    (scene.pilot.folder / "gwms_bosco" / "web_proxy.conf").unlink()
    assert scene.round()["STATE"] == "none"


def test_new_payloads_find_the_change_in_their_siteconf(world: World) -> None:
    scene = Scene(world)
    name = "T2_XX_Test/JobConfig/site-local-config.xml"
    folder = scene.pilot.folder / "gwms_bosco" / "siteconf"
    head = '<site-local-config>\n<site name="T2_XX_Test">\n<calib-data>\n<frontier-connect>\n'
    tail = '<server url="http://s:8000/X"/>\n</frontier-connect>\n</calib-data>\n</site>\n</site-local-config>\n'
    for path, text in {
        f"pieces/{name}.head": head,
        f"pieces/{name}.tail": tail,
        f"SITECONF/{name}": head + tail,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for file in [folder, *folder.rglob("*")]:
        os.chown(file, UID, UID)
    scene.round()
    assert (folder / "SITECONF" / name).read_text() == head + tail
    scene.own.fault = "portal"
    scene.rounds(BAD_ROUNDS)
    tree = ElementTree.fromstring((folder / "SITECONF" / name).read_text())  # noqa: S314 # our own script wrote it
    assert [proxy.get("url") for proxy in tree.iter("proxy")] == [scene.near.url]
    scene.own.fault = ""
    scene.rounds(GOOD_ROUNDS)
    tree = ElementTree.fromstring((folder / "SITECONF" / name).read_text())  # noqa: S314 # our own script wrote it
    assert [proxy.get("url") for proxy in tree.iter("proxy")] == [scene.own.url]
    assert [proxy.get("url") for proxy in tree.iter("backupproxy")] == [scene.near.url]


@contextlib.contextmanager
def client_socket(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A CVMFS client's socket; yields the commands it gets, each answered with `answer`."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o777)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as connection:
                        heard.append(connection.recv(4096))
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def mounted(pilot: Pilot, mode: str) -> Path:
    """Leave what cvmfs_setup leaves; the cache's folder with the sockets."""
    state, cache = pilot.folder / "gwms_bosco", pilot.folder / "cache"
    (cache / "shared").mkdir(parents=True)
    program = state / "cvmfs" / "dist" / "usr" / "bin" / "cvmfs_talk"
    program.parent.mkdir(parents=True)
    shutil.copy(STANDINS / "standin_cvmfs_talk", program)
    (state / "cvmfs.conf").write_text(f"MODE={mode}\nREPOSITORIES={REPOSITORY}\nCACHE={cache}\n")
    for path in [state, *state.rglob("*")]:
        os.chown(path, UID, UID)
    return cache


def test_tells_the_client_that_runs(world: World) -> None:
    scene = Scene(world)
    cache = mounted(scene.pilot, "userns")
    with client_socket(cache / "shared" / f"cvmfs_io.{REPOSITORY}", b"OK\n") as heard:
        assert scene.round()["CVMFS"] == "same"
        scene.own.fault = "portal"
        assert scene.rounds(BAD_ROUNDS)["CVMFS"] == "told"
        assert heard == [f"proxy set {scene.near.url}".encode()]
        assert scene.round()["CVMFS"] == "same"


def test_tries_again_where_the_client_could_not_be_told(world: World) -> None:
    scene = Scene(world)
    cache = mounted(scene.pilot, "fusermount")
    scene.own.fault = "portal"
    assert scene.rounds(BAD_ROUNDS)["CVMFS"] == f"{REPOSITORY} has no socket in the cache"
    path = cache / "shared" / f"cvmfs_io.{REPOSITORY}"
    with client_socket(path, b"Failed, no valid proxies\n"):
        assert scene.round()["CVMFS"] == f"{REPOSITORY} answers Failed, no valid proxies"
    path.unlink()
    with client_socket(path, b"OK\n"):
        assert scene.round()["CVMFS"] == "told"


@pytest.mark.parametrize(
    ("mode", "reason"), [("native", "the CVMFS of the node has a list of its own"), ("none", "this pilot has no CVMFS")]
)
def test_says_why_cvmfs_is_not_told(world: World, mode: str, reason: str) -> None:
    scene = Scene(world)
    mounted(scene.pilot, mode)
    scene.own.fault = "portal"
    assert scene.rounds(BAD_ROUNDS)["CVMFS"] == reason


def test_the_next_parrot_starts_with_the_new_list(world: World) -> None:
    scene = Scene(world)
    mounted(scene.pilot, "parrot")
    prefix = scene.pilot.folder / "gwms_bosco" / "prefix"
    prefix.write_text("/opt/parrot_run\n-p\nhttp://old:1\n-r\ncms.cern.ch\n--\n")
    scene.own.fault = "portal"
    assert scene.rounds(BAD_ROUNDS)["CVMFS"] == "told"
    assert prefix.read_text() == f"/opt/parrot_run\n-p\n{scene.near.url}\n-r\ncms.cern.ch\n--\n"


def test_leaves_a_list_for_cvmfs_that_the_site_file_sets(world: World) -> None:
    scene = Scene(world, GWMS_BOSCO_CVMFS_PROXY="http://fixed:1")
    mounted(scene.pilot, "userns")
    scene.own.fault = "portal"
    assert scene.rounds(BAD_ROUNDS)["CVMFS"] == "the site file sets another list for CVMFS"
