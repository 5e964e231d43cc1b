# SPDX-License-Identifier: Apache-2.0
"""OpenSSH of Debian 11 (8.4), 12 (9.2) and 13 (10.0) as client at the factory and as server at the site.

Every pair of client and server meets every type of user key and every type of host key. Not the full product: the
type of the user key decides which algorithm is asked for, that of the host key how the destination is proved, and
neither is looked at where the other is. So each pair has four rows, in which both types change.

Debian 11's ssh sends no session-bind: there the relay gives it the tap, as it finds out by `ssh -V`. What a client does
by itself, whatever the server (one connection for several sessions, new keys, a jump), is tried with each client once.
The older clients are the other Debians' own programs, and the tap runs under their Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import interop
from tests.lab.interop import HOST_CERT, KEY_TYPES, SERVERS, USER, Client, World
from tests.lab.lab import Lab

DEBIANS = (11, 12, 13)
BIND, EVIDENCE = "session-bind", "kex-evidence"
SSH_FAILED = 255
GATE_REFUSED = 126
HOST_KEY, NO_PROOF = 3, 12
HOST_KEY_ALGORITHMS = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256", "rsa": "rsa-sha2-512"}

# (type of the user key, type of the host key)
PAIRINGS = (("ed25519", "rsa"), ("ecdsa", "ecdsa"), ("rsa", "ed25519"), ("ed25519", HOST_CERT))
KEY_EXCHANGES = (
    # Through the tap: all that a server of Debian 12 still has for that client. They differ in their messages (group
    # exchange has one more) and in the hash, whose length is that of the session id.
    *((11, 12, name) for name in (
        "curve25519-sha256", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
        "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512",
        "diffie-hellman-group-exchange-sha256",
    )),
    # By session-bind ssh itself hands the proof on: one of each length of hash, and the two post-quantum ones.
    (12, 12, "ecdh-sha2-nistp384"),
    (12, 13, "sntrup761x25519-sha512@openssh.com"),
    (13, 12, "diffie-hellman-group-exchange-sha256"),
    (13, 13, "sntrup761x25519-sha512"),
    (13, 13, "mlkem768x25519-sha256"),
)  # fmt: skip


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[World]:
    made = interop.build(lab)
    yield made
    made.end()


@pytest.fixture
def client(world: World, request: pytest.FixtureRequest) -> Client:
    """Parameter: (Debian, whether the factory has the tap)."""
    return world.client(*request.param)


@pytest.fixture(autouse=True)
def _nothing_open(world: World) -> Iterator[None]:
    """Nothing is written down for a test that another has caused."""
    assert world.audited() == []
    yield
    world.audited()


def way(debian: int) -> Any:
    """A client on a factory whose own ssh it is."""
    return pytest.param((debian, debian == 11), id=f"client{debian}")


CLIENTS = [way(debian) for debian in DEBIANS]


def proof_of(client: Client) -> str:
    return EVIDENCE if client.debian == 11 else BIND


def signed(world: World, client: Client, entry: str, *hosts: str) -> list[dict[str, Any]]:
    """The records since the last look: one signature for each of these hosts, each with the client's proof."""
    records = world.audited()
    assert [(r["event"], r.get("proof"), r.get("host")) for r in records] == [
        ("sign", proof_of(client), host) for host in hosts
    ], records
    assert records[-1]["entry"] == entry
    return records


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
@pytest.mark.parametrize("server", [pytest.param(SERVERS[debian], id=f"server{debian}") for debian in DEBIANS])
@pytest.mark.parametrize(("key", "host_key"), PAIRINGS)
def test_logs_in(world: World, client: Client, server: str, key: str, host_key: str) -> None:
    by_ca = host_key == HOST_CERT
    entry = interop.BY_CA if by_ca else key
    # With the CA alone registered, ssh asks for a certificate by itself.
    options = [] if by_ca else ["-o", f"HostKeyAlgorithms={HOST_KEY_ALGORITHMS[host_key]}"]
    done = world.ssh(client, entry, server, *options)
    assert (done.returncode, done.stdout) == (0, f"{USER}\n"), done.stderr
    (record,) = signed(world, client, entry, server)
    assert record["host_key"] == world.host_key(server, "ed25519" if by_ca else host_key)
    assert record["algorithm"] == HOST_KEY_ALGORITHMS[key]


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
@pytest.mark.parametrize(
    ("server", "algorithm", "reason"),
    [
        pytest.param(SERVERS[11], "ecdsa-sha2-nistp256", "host key SHA256:", id="server11"),
        # Without a CA to check it by, ssh 10.0 falls back to the key in it, and wants that to be named as well.
        pytest.param(SERVERS[12], "ssh-ed25519-cert-v01@openssh.com,ssh-ed25519", "host certificate: signed by a CA",
                     id="server12-certificate"),
        pytest.param(SERVERS[13], "ssh-ed25519", "host key SHA256:", id="server13"),
    ],
)  # fmt: skip
def test_refuses_a_host_key_that_is_not_registered(
    world: World, client: Client, server: str, algorithm: str, reason: str
) -> None:
    """A factory that does not look at host keys itself; the account would let the key in."""
    look_away = ["-v", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    done = world.ssh(client, interop.MISREGISTERED, server, *look_away, "-o", f"HostKeyAlgorithms={algorithm}")
    assert (done.returncode, done.stdout) == (SSH_FAILED, "")
    assert "Server accepts key" in done.stderr
    assert f"GWMS-SSH-BROKER: DENY 3: {reason}" in done.stderr, done.stderr
    records = world.audited()
    assert {(record["event"], record.get("code")) for record in records} == {("deny", HOST_KEY)}


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
def test_ssh_itself_refuses_a_host_key_that_is_not_registered(world: World, client: Client) -> None:
    done = world.ssh(client, interop.MISREGISTERED, SERVERS[13])
    assert done.returncode == SSH_FAILED
    assert "Host key verification failed" in done.stderr
    assert world.audited() == []


@pytest.mark.parametrize(
    ("client", "server", "name"),
    [
        pytest.param(*way(debian).values, SERVERS[server], name, id=f"client{debian}-server{server}-{name}")
        for debian, server, name in KEY_EXCHANGES
    ],
    indirect=["client"],
)
def test_logs_in_with_every_kind_of_key_exchange(world: World, client: Client, server: str, name: str) -> None:
    done = world.ssh(client, "ed25519", server, "-v", "-o", f"KexAlgorithms={name}")
    assert (done.returncode, done.stdout) == (0, f"{USER}\n"), done.stderr
    assert f"kex: algorithm: {name}" in done.stderr
    signed(world, client, "ed25519", server)


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
def test_one_signature_serves_all_sessions_of_a_connection(world: World, client: Client) -> None:
    path = f"/tmp/interop-{client.debian}"
    share = ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}", "-o", "ControlPersist=30"]
    server = SERVERS[13]
    try:
        # The master keeps the standard error output open for as long as it lives.
        first = world.ssh(client, "ed25519", server, *share, "-E", f"{path}.log")
        second = world.ssh(client, "ed25519", server, *share)
    finally:
        closed = world.ssh(client, "ed25519", server, *share, "-O", "exit")
    assert [done.stdout for done in (first, second)] == [f"{USER}\n"] * 2, (first, second)
    assert closed.returncode == 0, closed
    signed(world, client, "ed25519", server)


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
def test_new_session_keys_need_no_signature(world: World, client: Client) -> None:
    # Much more than ssh reads at once: it looks at the limit in between.
    size = 8_000_000
    options = ["-v", "-o", "RekeyLimit=64K"]
    done = world.ssh(client, "ed25519", SERVERS[12], *options, command=f"head -c {size} /dev/zero")
    assert (done.returncode, len(done.stdout)) == (0, size), done.stderr
    assert done.stderr.count("SSH2_MSG_NEWKEYS received") > 2
    signed(world, client, "ed25519", SERVERS[12])


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
def test_jumps_through_a_host_with_a_handle_of_its_own(world: World, client: Client) -> None:
    jump, server = SERVERS[12], SERVERS[13]
    world.lab.write_file("factory", interop.INCLUDED, f"Host {server}\n  ProxyJump {USER}@{jump}\n")
    try:
        done = world.ssh(client, interop.BEHIND_JUMP, server, command="id -un; echo $SSH_CONNECTION")
    finally:
        world.lab.run("factory", ["rm", interop.INCLUDED])
    name, connection = done.stdout.splitlines() or (done.stderr, "")
    assert (name, connection.split()[:1]) == (USER, ["10.77.0.23"]), done
    records = signed(world, client, interop.BEHIND_JUMP, jump, server)
    assert [record["entry"] for record in records] == [interop.JUMP, interop.BEHIND_JUMP]


@pytest.mark.parametrize(
    ("client", "server", "kind"),
    [
        pytest.param(
            *way(debian).values, SERVERS[server], KEY_TYPES[(i + j) % 3],
            id=f"client{debian}-server{server}-{KEY_TYPES[(i + j) % 3]}",
        )
        for i, debian in enumerate(DEBIANS)
        for j, server in enumerate(DEBIANS)
    ],
    indirect=["client"],
)  # fmt: skip
def test_logs_in_with_a_certificate(world: World, client: Client, server: str, kind: str) -> None:
    """Each client and each server meets a certificate on a key of each type; the account knows only the CA."""
    entry = interop.CERT[kind]
    done = world.ssh(client, entry, server)
    assert (done.returncode, done.stdout) == (0, f"{USER}\n"), done.stderr
    (record,) = signed(world, client, entry, server)
    # The site's own log names the same certificate.
    accepted = f"ID {record['cert_key_id']} (serial {record['cert_serial']})"
    assert accepted in world.lab.read_file(server, "/var/log/sshd.log")


@pytest.mark.parametrize(
    ("client", "server"),
    [pytest.param(*way(d).values, SERVERS[d], id=f"client{d}-server{d}") for d in DEBIANS],
    indirect=["client"],
)
def test_the_gate_starts_what_remote_gahp_sends_and_nothing_else(world: World, client: Client, server: str) -> None:
    allowed = interop.install_gate(world.lab, server)
    started = world.ssh(client, interop.GATE, server, command=allowed)
    other = world.ssh(client, interop.GATE, server)
    assert (started.returncode, started.stdout.startswith("blahpd of /")) == (0, True), started
    assert (other.returncode, other.stdout) == (GATE_REFUSED, ""), other
    assert "gwms-gate: this key starts blahpd and condor_ft-gahp" in other.stderr
    signed(world, client, interop.GATE, server, server)


@pytest.mark.parametrize("client", [pytest.param((d, True), id=f"client{d}-tap") for d in (12, 13)], indirect=True)
def test_session_bind_counts_more_than_the_tap(world: World, client: Client) -> None:
    """`tap: always` does newer clients no harm."""
    done = world.ssh(client, "ed25519", SERVERS[13])
    assert (done.returncode, done.stdout) == (0, f"{USER}\n"), done.stderr
    signed(world, client, "ed25519", SERVERS[13])


@pytest.mark.parametrize("client", [pytest.param((11, False), id="client11-no-tap")], indirect=True)
def test_refuses_an_old_client_without_the_tap(world: World, client: Client) -> None:
    done = world.ssh(client, "ed25519", SERVERS[13], "-v")
    assert (done.returncode, done.stdout) == (SSH_FAILED, "")
    assert "Server accepts key" in done.stderr
    assert "GWMS-SSH-BROKER: DENY 12: no proof of the destination" in done.stderr
    assert {(record["event"], record.get("code")) for record in world.audited()} == {("deny", NO_PROOF)}
