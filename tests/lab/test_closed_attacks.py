# SPDX-License-Identifier: Apache-2.0
"""The tunnel's key in a thief's hands, and an egress proxy in those of a stranger.

Every attempt is made with a key that is not limited, too, at an sshd that forbids nothing: what stops the thief is the
key's line in authorized_keys, as `remote deploy` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Callable

import pytest

from tests.lab import closed_egress
from tests.lab.closed_egress import PORTS, SSH_ADDRESS, SSH_USER
from tests.lab.closed_home import ADDRESS as HOME
from tests.lab.closed_home import FORWARDS
from tests.lab.daemon import Daemon
from tests.lab.key_thief import EXTRAS, REVERSE, SESSIONS, Attempt, Thief
from tests.lab.lab import Lab
from tests.lab.pilots import ACCOUNT
from tests.lab.sshd import LOG
from tests.lab.tunnel_site import LOGIN, TunnelSite, bring_tunnel_site, closed_lab, start_egress
from tests.lab.waiting import await_true

KIND = "ssh"
"""Its key opens two doors: the login node and the egress proxy."""
LISTENS = "Server listening on 0.0.0.0"
PLAIN_PORT = 80
"""On the address of the egress proxy of kind ssh: an sshd that forbids nothing."""
FACTORY, LOGIN_OUTSIDE, LOGIN2 = "10.77.0.10", "10.77.0.20", "10.77.1.2"
LISTED = ("pool", "web")
THIEF_SOCKET = "/tmp/thief.socket"
THIEF_KEYS = "/shared/pilot/thief"
"""The two other keys are called THIEF_KEYS-NAME."""
BESIDE = f"{HOME}:443"
"""Another host, on the egress proxy's port."""
SPEAKERS = (
    ("outside", HOME, 443),
    ("outside", HOME, FORWARDS["pool"]),
    ("outside", HOME, FORWARDS["web"]),
    ("outside", HOME, FORWARDS["web"] + 1),
    ("factory", FACTORY, FORWARDS["web"]),
    ("egress", "127.0.0.1", FORWARDS["web"]),
)
"""Servers that speak first: two forwards of the site, and what stands beside them."""
_FOLDER = "/srv/thief"
_OPEN = """\
X11Forwarding yes
XAuthLocation /usr/bin/true
AllowAgentForwarding yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
GatewayPorts clientspecified
PermitUserRC yes
PermitTTY yes
"""
_PLAIN = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/keys
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PerSourcePenalties no
Subsystem sftp /usr/lib/openssh/sftp-server
"""


@dataclass(frozen=True)
class Keys:
    """Private keys that open the same door, as one thief holds them.

    Attributes:
        stolen: the tunnel's.
        unforced: limited in the same way, but for the forced command.
        plain: not limited.
        listed: `address:port` of what the tunnel's key is for.
        unlisted: of other servers that the door's machine reaches.
    """

    stolen: Thief
    unforced: Thief
    plain: Thief
    listed: str
    unlisted: Sequence[str]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with closed_lab() as made:
        yield made


@pytest.fixture(scope="module")
def site(lab: Lab) -> TunnelSite:
    """Its key is on the cluster's storage, and all that a thief could want listens."""
    made = bring_tunnel_site(lab, KIND, LISTED)
    for host, address, port in SPEAKERS:
        start_speaker(lab, host, f"speaker-{port}", f"TCP-LISTEN:{port},bind={address},reuseaddr")
        await_listening(lab, host, port)
    for name in ("unforced", "plain"):
        lab.run("login", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{THIEF_KEYS}-{name}"], user=ACCOUNT)
    start_plain_sshd(lab, made)
    return made


def start_speaker(lab: Lab, host: str, name: str, listen: str, user: str = "root") -> None:
    """Something that says one line to whoever connects."""
    Daemon(lab, host, user, name, ["socat", f"{listen},fork", "SYSTEM:echo speaker"]).start()


def await_listening(lab: Lab, host: str, port: int) -> None:
    await_true(lambda: bool(lab.run(host, ["ss", "-Hltn", f"sport = :{port}"]).stdout), f"{host}:{port}", 10.0)


def authorized(lab: Lab, limited: str) -> str:
    """Lines for all three keys; `limited` is that of the stolen one."""
    options = limited.partition(" ssh-ed25519 ")[0]
    forced = 'command="/bin/false",'
    assert forced in options
    publics = {name: lab.read_file("login", f"{THIEF_KEYS}-{name}.pub") for name in ("unforced", "plain")}
    return f"{limited}\n{options.replace(forced, '')} {publics['unforced']}{publics['plain']}"


def keys_of(thief: Thief, listed: str, unlisted: Sequence[str]) -> Keys:
    unforced, plain = (replace(thief, key=f"{THIEF_KEYS}-{name}") for name in ("unforced", "plain"))
    return Keys(thief, unforced, plain, listed, unlisted)


def start_plain_sshd(lab: Lab, site: TunnelSite) -> None:
    """The egress proxy's sshd as it would be if its configuration forbade nothing."""
    host = lab.host(closed_egress.HOST)
    host.make_dirs(_FOLDER)
    host.run(["usermod", "--shell", "/bin/bash", SSH_USER])
    host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{_FOLDER}/host_key"])
    host.write_file(f"{_FOLDER}/keys", authorized(lab, site.egress_line or ""))
    host.write_file(
        f"{_FOLDER}/sshd_config", _OPEN + _PLAIN.format(address=SSH_ADDRESS, port=PLAIN_PORT, folder=_FOLDER)
    )
    Daemon(lab, host.name, "root", "plain-sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", f"{_FOLDER}/sshd_config"]).start()
    await_listening(lab, host.name, PLAIN_PORT)


def restart_sshd(lab: Lab) -> None:
    """Have the login node's sshd read its configuration."""
    host = lab.host("login")
    starts = host.read_file(LOG).count(LISTENS)
    host.sh('kill -HUP "$(cat /run/sshd.pid)"')
    await_true(lambda: host.read_file(LOG).count(LISTENS) > starts, "sshd is back", 10.0)


@pytest.fixture(scope="module")
def at_login(lab: Lab, site: TunnelSite) -> Keys:
    """On a worker, at the login node."""
    host = lab.host("login")
    host.write_file("/etc/ssh/sshd_config.d/05-forbids-nothing.conf", _OPEN)
    restart_sshd(lab)
    lines = f"{host.account(ACCOUNT).home}/.ssh/authorized_keys"
    assert site.login_line in host.read_file(lines).splitlines()
    host.write_file(lines, authorized(lab, site.login_line), f"{ACCOUNT}:{ACCOUNT}", 0o600)
    thief = Thief(lab, "worker1", ACCOUNT, site.key, f"{ACCOUNT}@{LOGIN}")
    beside = (f"{LOGIN}:22", "127.0.0.1:22", "localhost:22", f"{LOGIN2}:22", f"{SSH_ADDRESS}:{PLAIN_PORT}", BESIDE)
    return keys_of(thief, f"{SSH_ADDRESS}:443", beside)


@pytest.fixture(scope="module")
def at_egress(lab: Lab, site: TunnelSite) -> Keys:
    """On the login node, at the egress proxy."""
    thief = Thief(lab, "login", ACCOUNT, site.key, f"{SSH_USER}@{SSH_ADDRESS}", PLAIN_PORT)
    beside = (
        f"{HOME}:{FORWARDS['web'] + 1}",
        f"{HOME}:22",
        f"{FACTORY}:{FORWARDS['web']}",
        f"{SSH_ADDRESS}:{PLAIN_PORT}",
    )
    return keys_of(thief, f"{HOME}:{FORWARDS['pool']}", beside)


@pytest.fixture(params=["at_login", "at_egress"])
def keys(request: pytest.FixtureRequest) -> Keys:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Keys)
    return found


@pytest.mark.parametrize("attempt", SESSIONS)
def test_key_opens_no_session(keys: Keys, attempt: Attempt) -> None:
    assert not attempt(keys.stolen)
    assert attempt(keys.plain)


@pytest.mark.parametrize("attempt", EXTRAS)
def test_key_has_no_extras_even_where_commands_run(keys: Keys, attempt: Attempt) -> None:
    assert not attempt(keys.stolen)
    assert not attempt(keys.unforced)
    assert attempt(keys.plain)


@pytest.mark.parametrize("attempt", REVERSE)
def test_key_makes_no_reverse_forward(keys: Keys, attempt: Attempt) -> None:
    assert not attempt(keys.stolen)
    assert attempt(keys.plain)


def test_key_reaches_only_what_it_is_for(keys: Keys) -> None:
    targets = [keys.listed, *keys.unlisted]
    ways: dict[str, Callable[[Thief], list[str]]] = {
        "-W": lambda thief: [target for target in targets if thief.reaches(target)],
        "-L": lambda thief: thief.hears(targets),
        "-D": lambda thief: thief.hears_by_socks(targets),
    }
    for way, heard in ways.items():
        assert heard(keys.stolen) == [keys.listed], way
        assert heard(keys.plain) == targets, way


def test_key_runs_nothing_of_the_account_at_login(lab: Lab, at_login: Keys) -> None:
    """~/.ssh/rc runs before a forced command, unless the key's line forbids it."""
    host = lab.host("login")
    home = host.account(ACCOUNT).home
    host.write_file(f"{home}/.ssh/rc", "touch ~/rc-ran\n", f"{ACCOUNT}:{ACCOUNT}")

    def ran(thief: Thief) -> bool:
        thief.ssh(command="true")
        return lab.run("login", ["rm", f"{home}/rc-ran"], check=False).returncode == 0

    try:
        assert not ran(at_login.stolen)
        assert not ran(at_login.unforced)
        assert ran(at_login.plain)
    finally:
        host.run(["rm", f"{home}/.ssh/rc"])


@pytest.mark.parametrize("place", ["login", "factory", "outside"])
def test_key_for_the_login_node_works_from_workers_only(lab: Lab, at_login: Keys, place: str) -> None:
    """On the login node itself it is tried by an address that is none of the workers'."""
    refused_elsewhere(lab, at_login, place, "127.0.0.1" if place == "login" else LOGIN_OUTSIDE)


@pytest.mark.parametrize("place", ["outside", "egress"])
def test_key_for_the_egress_proxy_works_from_the_site_only(lab: Lab, at_egress: Keys, place: str) -> None:
    refused_elsewhere(lab, at_egress, place, SSH_ADDRESS)


def moved(lab: Lab, thief: Thief, place: str) -> Thief:
    """The same thief on another host, with the key he has taken along."""
    folder = "/tmp/stolen"
    lab.host(place).make_dirs(folder, mode=0o700)
    path = f"{folder}/{thief.key.rpartition('/')[2]}"
    lab.write_file(place, path, lab.read_file("login", thief.key), mode=0o600)
    return replace(thief, host=place, user="root", key=path)


def refused_elsewhere(lab: Lab, keys: Keys, place: str, address: str) -> None:
    user = keys.stolen.target.partition("@")[0]
    thieves = [
        replace(moved(lab, thief, place), target=f"{user}@{address}")
        for thief in (keys.stolen, keys.unforced, keys.plain)
    ]
    assert keys.stolen.gets_in()
    assert [thief.gets_in() for thief in thieves] == [False, False, True]
    assert "Permission denied (publickey)" in thieves[0].refusal()


def listens_on_unix_socket(thief: Thief) -> bool:
    """Make a reverse forward that is a file."""
    with thief.forwarding("-R", f"{THIEF_SOCKET}:127.0.0.1:22") as up:
        return up


def test_key_reaches_no_unix_socket(lab: Lab, at_login: Keys) -> None:
    path = "/tmp/account.socket"
    start_speaker(lab, "login", "speaker-unix", f"UNIX-LISTEN:{path}", ACCOUNT)
    await_true(lambda: lab.run("login", ["test", "-S", path], check=False).returncode == 0, path, 10.0)
    assert at_login.stolen.hears([path]) == []
    assert at_login.plain.hears([path]) == [path]


@pytest.mark.parametrize("setting", ["yes", "local"])
def test_reverse_forward_that_is_a_file_is_for_sshd_to_forbid(lab: Lab, at_login: Keys, setting: str) -> None:
    """permitlisten is about ports, and no other word of authorized_keys forbids it (tried with OpenSSH 10.0).

    So a thief makes a Unix socket on the login node, with the account's rights, unless the centre forbids that to all.
    """
    host, config = lab.host("login"), "/etc/ssh/sshd_config.d/04-unix.conf"
    host.write_file(config, f"AllowStreamLocalForwarding {setting}\n")
    restart_sshd(lab)
    try:
        assert listens_on_unix_socket(at_login.stolen) == (setting == "yes")
    finally:
        host.run(["rm", "-f", config, THIEF_SOCKET])
        restart_sshd(lab)


@pytest.fixture(scope="module")
def at_made(lab: Lab, site: TunnelSite) -> Thief:
    """At the sshd whose configuration is made by gwms-bosco, with a key that is not limited."""
    lines = "/etc/gwms-egress/authorized_keys"
    made = lab.read_file(closed_egress.HOST, lines)
    assert site.egress_line is not None
    assert made.startswith(site.egress_line.partition(" ssh-ed25519 ")[0] + " ")
    lab.write_file(closed_egress.HOST, lines, made + lab.read_file("login", f"{THIEF_KEYS}-plain.pub"))
    return Thief(lab, "login", ACCOUNT, f"{THIEF_KEYS}-plain", f"{SSH_USER}@{SSH_ADDRESS}", PORTS["ssh"][1])


@pytest.mark.parametrize("attempt", [*SESSIONS, *EXTRAS, *REVERSE, listens_on_unix_socket])
def test_sshd_of_the_egress_proxy_allows_nothing_to_any_key(at_egress: Keys, at_made: Thief, attempt: Attempt) -> None:
    assert not attempt(at_made)
    assert attempt(at_egress.plain)


def through(lab: Lab, kind: str, host: str, target: tuple[str, int]) -> bool:
    """Whether a server that speaks first is heard through an egress proxy by a client on `host`."""
    address, port = PORTS[kind]
    words = ["-X", {"http-connect": "connect", "socks5": "5"}[kind], "-x", f"{address}:{port}"]
    argv = ["timeout", "10", "nc", "-d", *words, target[0], str(target[1])]
    return "speaker" in lab.run(host, argv, check=False).stdout


@pytest.mark.parametrize("kind", ["http-connect", "socks5", "ssh"])
def test_egress_proxy_serves_the_site_only_and_opens_the_forwards_only(lab: Lab, at_made: Thief, kind: str) -> None:
    listed = [(HOME, FORWARDS[name]) for name in LISTED]
    unlisted = [(address, port) for _, address, port in SPEAKERS if (address, port) not in listed]
    if kind == "socks5":
        # What stands for Dante here knows no ports; its own rules are tried in tests/unit/test_egress_proxy.py.
        unlisted = [(FACTORY, FORWARDS["web"])]
    if kind != "ssh":
        start_egress(lab, kind, LISTED)
    stranger = moved(lab, at_made, "factory")

    def heard(host: str, target: tuple[str, int]) -> bool:
        if kind != "ssh":
            return through(lab, kind, host, target)
        return (at_made if host == "login" else stranger).reaches(f"{target[0]}:{target[1]}")

    assert [heard("login", target) for target in listed] == [True, True]
    assert [target for target in unlisted if heard("login", target)] == []
    assert [target for target in listed if heard("factory", target)] == []
    # It is not the network that stops them.
    for address, port in (*listed, *unlisted):
        assert lab.run(closed_egress.HOST, ["nc", "-d", address, str(port)]).stdout == "speaker\n"
        assert address == "127.0.0.1" or lab.run("factory", ["nc", "-d", address, str(port)]).stdout
