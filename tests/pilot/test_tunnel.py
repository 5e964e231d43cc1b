# SPDX-License-Identifier: Apache-2.0
"""The tunnel of a closed site through a real firewall, sshd and egress proxies, and with every fault of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pilot import tunnel_world
from tests.pilot.tunnel_world import LOGINS, PAGE, TARGET, World, Wrapper, wait_for


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    lacking = tunnel_world.lacking()
    if lacking:
        pytest.skip(f"this machine has no {lacking}")
    with tunnel_world.running(tmp_path) as found:
        yield found


@pytest.fixture
def up(world: World) -> Wrapper:
    """A wrapper with a tunnel of kind http-connect by the first login node."""
    world.squid()
    world.logins[0].start()
    wrapper = world.wrapper(world.conf())
    assert wrapper.fetch() == PAGE
    return wrapper


def nothing_left(world: World) -> bool:
    """No process on the worker, no connection on the login node, no folder."""
    return (
        not world.worker.processes()
        and not world.login.pids("sshd: root")
        and not list((world.folder / "tmp").iterdir())
    )


@pytest.mark.parametrize("kind", ["http-connect", "socks5", "ssh"])
def test_carries_what_the_firewall_stops(world: World, kind: str) -> None:
    {"http-connect": world.squid, "socks5": world.microsocks, "ssh": world.egress_sshd}[kind]()
    world.logins[0].start()
    host, _, port = TARGET.partition(":")
    direct = world.worker.start(["bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"])
    direct.communicate()
    assert direct.returncode != 0
    wrapper = world.wrapper(world.conf(kind))
    assert wrapper.fetch() == PAGE
    assert wrapper.state[0] == "UP"
    assert {path.stat().st_mode & 0o077 for path in wrapper.folder.rglob("*")} == {0}
    wrapper.end()
    wait_for(lambda: nothing_left(world), "all is gone")


def test_fifty_starts_on_a_node_are_one_connection(world: World) -> None:
    world.squid()
    world.logins[0].start()
    conf = world.conf()
    wrappers = [world.wrapper(conf) for _ in range(50)]
    assert len({wrapper.folder for wrapper in wrappers}) == 1
    assert world.logins[0].logins == 1
    assert len(world.worker.pids("ssh -F")) == 1
    for wrapper in wrappers:
        wrapper.kill()
    wait_for(lambda: not world.worker.processes(), "all is gone", 15)


def test_thirty_nodes_at_once_come_up_where_sshd_refuses_many(world: World) -> None:
    """Each folder stands for a node; sshd drops at random from the tenth connection without login on."""
    world.squid()
    world.logins[0].start("MaxStartups 10:30:60", "MaxSessions 1")
    began = time.monotonic()
    conf = world.conf()
    wrappers = [world.wrapper(conf, f"node{number}") for number in range(30)]
    assert len({wrapper.folder for wrapper in wrappers}) == 30
    print(f"30 nodes up in {time.monotonic() - began:.1f} s, refused {world.logins[0].count('drop connection')} times")
    # Here they share the ports of one host; two may choose the same, and one then logs in again.
    assert 30 <= world.logins[0].logins <= 33


def test_retries_when_sshd_turns_it_away_before_the_login(world: World) -> None:
    """MaxStartups is used up by connections that never log in."""
    world.squid()
    world.logins[0].start("MaxStartups 1", "LoginGraceTime 60")
    holder = world.worker.start(["bash", "-c", f"exec 3<>/dev/tcp/{LOGINS[0]}/22; read -r line <&3; echo; read -r end"])
    assert holder.stdout is not None
    assert holder.stdout.readline()
    wrapper = world.wrapper(world.conf())
    wait_for(lambda: world.logins[0].count("drop connection") > 1, "it is turned away twice")
    holder.communicate()
    assert wrapper.state[0] == "UP"
    assert world.logins[0].logins == 1


def test_comes_back_on_its_port_when_ssh_is_killed(world: World, up: Wrapper) -> None:
    port = up.port
    world.worker.kill("KILL", up.ssh)
    wait_for(lambda: world.logins[0].logins == 2 and up.state[0] == "UP", "up again")
    assert up.port == port
    assert up.fetch() == PAGE


def test_comes_back_when_sshd_was_away_and_says_since_when_it_is_down(world: World, up: Wrapper) -> None:
    port = up.port
    world.logins[0].stop()
    wait_for(lambda: up.state[0] == "DOWN", "down")
    down = up.state
    wait_for(lambda: "Connection refused" in up.log(), "it tries")
    assert up.state == down
    world.logins[0].start()
    wait_for(lambda: up.state[0] == "UP", "up again")
    assert up.state[1] >= down[1]
    assert up.port == port
    assert up.fetch() == PAGE


def test_sees_packets_lost_by_keep_alive_and_comes_back(world: World, up: Wrapper) -> None:
    world.worker.nft("insert rule inet site out tcp dport 22 drop\n")
    wait_for(lambda: up.state[0] == "DOWN", "down")
    wait_for(lambda: "not responding" in up.log(), "the reason")
    handle = (
        world.worker.run("nft", "-a", "list", "chain", "inet", "site", "out").partition("drop # handle ")[2].split()[0]
    )
    world.worker.nft(f"delete rule inet site out handle {handle}\n")
    wait_for(lambda: up.state[0] == "UP", "up again")
    assert up.fetch() == PAGE


def test_moves_to_the_other_login_node(world: World) -> None:
    world.squid()
    world.logins[1].start()
    wrapper = world.wrapper(world.conf(LOGIN_HOSTS=",".join(LOGINS)))
    port = wrapper.port
    world.logins[0].start()
    world.logins[1].stop()
    wait_for(lambda: world.logins[0].logins == 1 and wrapper.state[0] == "UP", "up by the other")
    assert wrapper.port == port
    assert wrapper.fetch() == PAGE


def test_another_takes_over_when_the_holder_is_killed_with_its_process_group(world: World, up: Wrapper) -> None:
    other = world.wrapper(world.conf())
    assert other.folder == up.folder
    port, ssh = up.port, up.ssh
    up.kill()
    wait_for(lambda: other.log().count(" UP ") == 2, "taken over")
    assert other.ssh != ssh
    assert other.port == port
    assert other.fetch() == PAGE
    assert ssh not in world.worker.processes()
    other.end()
    wait_for(lambda: nothing_left(world), "all is gone")


@pytest.mark.parametrize("way", ["kernel", "guard"])
def test_ssh_dies_with_its_supervisor(world: World, way: str) -> None:
    """By the kernel also when the guard is killed with it; by the guard where setpriv cannot ask the kernel."""
    wrapper = started_without_setpriv(world) if way == "guard" else started(world)
    ssh, supervisor = wrapper.ssh, wrapper.supervisor
    guards = [pid for pid in world.worker.pids("wrapper") if pid not in (wrapper.pid, supervisor)]
    world.worker.kill("KILL", supervisor, *(guards if way == "kernel" else ()))
    wait_for(lambda: not set(world.worker.processes()) & {ssh, *guards}, "ssh and guard are gone", 10)


def test_the_next_start_ends_an_ssh_that_nobody_was_left_to_end(world: World) -> None:
    wrapper = started_without_setpriv(world)
    ssh, port = wrapper.ssh, wrapper.port
    world.worker.kill_others(ssh)
    assert list(world.worker.processes()) == [ssh]
    following = world.wrapper(world.conf())
    assert following.fetch() == PAGE
    assert ssh not in world.worker.processes()
    assert (following.folder, following.ssh != ssh, port > 0) == (wrapper.folder, True, True)
    following.end()
    wait_for(lambda: nothing_left(world), "all is gone")


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_a_signal_to_every_process_leaves_the_network_to_the_wrapper_and_nothing_after_it(
    world: World, up: Wrapper, signal: str
) -> None:
    ssh = up.ssh
    # `cat` stands for the pilot, which ends when it likes.
    world.worker.kill(
        signal, *(pid for pid, line in world.worker.processes().items() if pid != up.pid and line != "cat")
    )
    assert up.fetch() == PAGE
    assert up.ssh == ssh
    world.worker.kill(signal, up.pid)
    wait_for(lambda: nothing_left(world), "all is gone")


def test_leaves_when_the_wrapper_alone_is_killed(world: World, up: Wrapper) -> None:
    up.kill(whole=False)
    wait_for(lambda: nothing_left(world), "all is gone")


def test_a_refused_login_is_tried_three_times_by_all_of_a_node(world: World) -> None:
    world.squid()
    world.logins[0].start()
    (world.folder / "keys").write_text("")
    conf = world.conf()
    wrappers = [world.wrapper(conf) for _ in range(5)]
    for wrapper in wrappers:
        assert "login refused 3 times" in wrapper.failure()
    assert world.logins[0].count("Connection from") == 3
    wait_for(lambda: nothing_left(world), "all is gone")


def test_a_login_node_with_another_host_key_is_refused(world: World) -> None:
    world.squid()
    world.login_host_key_changes()
    world.logins[0].start()
    assert "Host key verification failed" in world.wrapper(world.conf()).failure()
    assert world.logins[0].logins == 0


def test_a_start_ends_in_bounded_time_with_the_reason(world: World) -> None:
    began = time.monotonic()
    reason = world.wrapper(world.conf(), GWMS_BOSCO_TUNNEL_START_S="3").failure()
    assert "no tunnel within 3 s" in reason
    assert "Connection refused" in reason
    assert 2 <= time.monotonic() - began < 30
    wait_for(lambda: nothing_left(world), "all is gone")


def test_a_start_fails_when_the_egress_proxy_does_not_answer(world: World) -> None:
    world.logins[0].start()
    reason = world.wrapper(world.conf(), GWMS_BOSCO_TUNNEL_START_S="5").failure()
    assert "10.78.0.30:80 does not answer" in reason


def test_says_down_while_the_egress_proxy_is_away_and_keeps_ssh(world: World) -> None:
    squid = world.squid()
    world.logins[0].start()
    wrapper = world.wrapper(world.conf(), GWMS_BOSCO_TUNNEL_PROBE_S="1")
    ssh = wrapper.ssh
    world.outside.kill("KILL", *world.outside.pids("squid"))
    squid.communicate()
    wait_for(lambda: wrapper.state[0] == "DOWN", "down")
    world.squid()
    wait_for(lambda: wrapper.state[0] == "UP", "up again")
    assert wrapper.ssh == ssh


def test_another_user_on_the_port_keeps_the_tunnel_down_and_is_named(world: World, up: Wrapper) -> None:
    """Pilots then read DOWN, not the other's answers: nothing is given out anew on another port."""
    port = up.port
    thief = f"import socket; s = socket.create_server(('127.0.0.1', {port})); print(flush=True); input()"
    world.logins[0].stop()
    wait_for(lambda: up.state[0] == "DOWN", "down")
    process = world.worker.start(["python3", "-c", thief], user=tunnel_world.ATTACKER)
    assert process.stdout is not None
    assert process.stdout.readline()
    world.logins[0].start()
    wait_for(lambda: f"port {port} on this node is in the hands of user id {tunnel_world.ATTACKER}" in up.log(), "seen")
    assert up.state[0] == "DOWN"
    assert world.logins[0].logins == 1
    process.communicate()
    wait_for(lambda: up.state[0] == "UP", "up again")
    assert up.port == port
    assert up.fetch() == PAGE


def test_works_in_a_folder_with_blanks_where_nothing_can_be_executed(world: World) -> None:
    world.squid()
    world.logins[0].start()
    place = world.folder / "a b"
    place.mkdir()
    world.worker.run("mount", "-t", "tmpfs", "-o", "noexec,nosuid,nodev,mode=1777", "tmp", str(place))
    wrapper = world.wrapper(world.conf(), "a b")
    env = {"PROXYCHAINS_CONF_FILE": f"{wrapper.folder}/proxychains.conf"}
    assert world.worker.run("cat", f"{wrapper.folder}/state").startswith("UP ")
    get = "exec 3<>/dev/tcp/10.78.0.31/8000 && printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
    assert PAGE.decode() in world.worker.run("proxychains4", "bash", "-c", get, env=env)


def test_hosts_may_log_in_by_their_own_keys(world: World) -> None:
    world.squid()
    world.trust_worker()
    world.logins[0].start(*tunnel_world.HOSTBASED)
    wrapper = world.wrapper(world.conf(AUTH="hostbased", KEY=""))
    assert wrapper.fetch() == PAGE
    assert world.logins[0].count("Accepted hostbased") == 1


def test_memory_of_a_node(world: World, up: Wrapper) -> None:
    """A figure: ssh, supervisor and guard, resident and without what they share with others."""
    # What stands in one listing only is a program that the guard or the supervisor has just asked something.
    rows = {
        pid
        for pid, line in (world.worker.processes().items() & world.worker.processes().items())
        if pid != up.pid and line != "cat"
    }
    figures = {}
    for pid in rows:
        text = world.worker.run("cat", f"/proc/{pid}/smaps_rollup")
        figures[pid] = [int(line.split()[1]) for line in text.splitlines() if line.startswith(("Rss:", "Pss:"))]
    resident, proportional = (sum(figure[place] for figure in figures.values()) for place in (0, 1))
    print(f"{len(rows)} processes: resident {resident / 1024:.1f} MiB, proportional {proportional / 1024:.1f} MiB")
    assert len(rows) == 3


def started(world: World, **env: str) -> Wrapper:
    """A wrapper whose tunnel is up."""
    world.squid()
    world.logins[0].start()
    wrapper = world.wrapper(world.conf(), **env)
    assert wrapper.state[0] == "UP"
    return wrapper


def started_without_setpriv(world: World) -> Wrapper:
    """On a node whose setpriv is too old to have the kernel end processes."""
    old = world.folder / "old" / "setpriv"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    return started(world, PATH=f"{old.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
