# SPDX-License-Identifier: Apache-2.0
"""Attacks on the broker: each starts from a real login, changes ONE thing, and meets ONE refusal that changes nothing.

The attacker is root at the factory: he has the relay's sockets and, in the second half, the relay's TLS key. What he
may still do is a control here: log in as the registered user at the registered host, as often as the rate allows.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Optional

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.messages import Deny, OfferItem, SignOk
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.handle import SUBMIT, handle_id
from glideinwms_bosco.sshwire.keys import parse_authorized, parse_public_key, verify
from glideinwms_bosco.sshwire.primitives import boolean, byte, string, text, uint32
from tests.lab.attacker import Attacker, Attempt, attacker
from tests.lab.keyless import (
    BROKER_DIR,
    BROKER_USER,
    FACTORY_USER,
    PORT,
    RELAY_DIR,
    SOCKETS,
    Broker,
    Relay,
    authorise,
    await_offer,
    start_broker,
    start_relay,
)
from tests.lab.lab import Lab
from tests.lab.waiting import await_true
from tests.unit.ssh_builder import Ed25519Signer

AUDIT = "/var/log/gwms-ssh-broker/audit.jsonl"
LAUNCHER = "/usr/libexec/gwms-bosco/gwms_remote_gahp"
BROKER_STATE = "/var/lib/gwms-ssh-broker"
RELAY_KEY = f"{RELAY_DIR}/relay"
BROKER_KEY = f"{BROKER_STATE}/broker"
OWN = Ed25519Signer(66)
"""A key of the attacker's own."""
SITE = "pilot@login"
OTHER_SITE = "pilot@outside"
BURST_OF_SLOW = 2


@dataclass(frozen=True)
class World:
    """Two VOs' brokers and one factory.

    Attributes:
        brokers: VO -> broker.
        handles: (VO, entry) -> purpose -> handle.
        public: (VO, entry) -> public key blob.
        intruder: has the rights of the factory's user, as root there can give himself.
    """

    lab: Lab
    relay: Relay
    brokers: dict[str, Broker]
    handles: dict[tuple[str, str], dict[str, str]]
    public: dict[tuple[str, str], bytes]
    intruder: Attacker

    def handle(self, entry: str = "main", purpose: str = SUBMIT, vo: str = "cms") -> str:
        return self.handles[vo, entry][purpose]

    def socket(self, entry: str = "main", purpose: str = SUBMIT) -> str:
        return f"{SOCKETS}/{self.handle(entry, purpose)}.sock"

    def login(self, entry: str = "main", where: str = SITE) -> Attempt:
        """A real login, begun with the entry's public key."""
        return self.intruder.login(self.public["cms", entry], where)

    def audit(self, vo: str = "cms") -> list[dict[str, Any]]:
        """The records of a broker's log."""
        return [json.loads(line) for line in self.lab.read_file(self.brokers[vo].host, AUDIT).splitlines()]

    def asked(self, vo: str = "cms") -> list[dict[str, Any]]:
        """Those about signatures."""
        return [record for record in self.audit(vo) if record["event"] not in ("start", "stop", "policy")]

    def state(self) -> list[str]:
        """Every file of policy and state of both brokers and of the relay, with its content, but what only reports."""
        script = 'find "$@" -type f ! -name status.json -exec sha256sum {} + -o -printf "%p %y %m\n" | sort'
        places = [("factory", (RELAY_DIR, SOCKETS))]
        places += [(broker.host, (BROKER_DIR, BROKER_STATE)) for broker in self.brokers.values()]
        return [self.lab.run(host, ["sh", "-c", script, "sh", *folders]).stdout for host, folders in places]

    def last_deny(self, entry: str, purpose: str = SUBMIT) -> int:
        """Code of the refusal that the socket's status, and so the gridmanager's reason, tells."""
        query = agent.status_request(self.handle(entry, purpose)).hex()
        (answer,) = self.intruder.do("talk", path=self.socket(entry, purpose), sent=[query])
        return int(json.loads(agent.parse_status(bytes.fromhex(answer)))["last_deny"]["code"])


@contextmanager
def nothing_changes(world: World) -> Iterator[None]:
    before = world.state()
    yield
    assert world.state() == before


@contextmanager
def one_denial(world: World, code: DenyCode) -> Iterator[None]:
    """The broker's log says `code` once and nothing else; policy, state and sockets stay as they are."""
    before = len(world.asked())
    with nothing_changes(world):
        yield
    assert [(record["event"], record.get("code")) for record in world.asked()[before:]] == [("deny", code)]


@contextmanager
def signed(world: World, times: int = 1) -> Iterator[None]:
    """The broker's log shows this many signatures and nothing else."""
    before = len(world.asked())
    yield
    assert [record["event"] for record in world.asked()[before:]] == ["sign"] * times


def _ask_socket(world: World, attempt: Attempt, entry: str, purpose: str) -> Optional[bytes]:
    if not attempt.evidence:
        return world.intruder.ask_socket(world.socket(entry, purpose), attempt)
    # Evidence belongs to a process: what one of an earlier test has left must not count.
    with attacker(world.lab, "factory", FACTORY_USER) as fresh:
        return fresh.ask_socket(world.socket(entry, purpose), attempt)


def refused_at_socket(
    world: World, attempt: Attempt, code: DenyCode, entry: str = "main", purpose: str = SUBMIT
) -> None:
    """The socket gives no signature, the factory's operator reads the code, and the broker's log has it."""
    with one_denial(world, code):
        assert _ask_socket(world, attempt, entry, purpose) is None
    assert world.last_deny(entry, purpose) == code


def signed_at_socket(world: World, attempt: Attempt, entry: str = "main", purpose: str = SUBMIT) -> bytes:
    """The socket gives a signature that the site would accept."""
    with signed(world):
        signature = _ask_socket(world, attempt, entry, purpose)
    assert signature is not None
    verify(parse_public_key(world.public["cms", entry]), signature, attempt.data)
    return signature


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[World]:
    relay = start_relay(lab)
    brokers = {vo: start_broker(lab, relay, host, vo) for vo, host in (("cms", "frontend"), ("icecube", "frontend2"))}
    relay.admit(*brokers.values())
    public = {}
    for vo, entry, kind, bits, burst in (
        ("cms", "main", "ed25519", None, 1000),
        ("cms", "rsa", "rsa", 2048, 1000),
        ("cms", "slow", "ed25519", None, BURST_OF_SLOW),
        ("cms", "late", "ed25519", None, 1000),
        ("cms", "early", "ed25519", None, 1000),
        ("icecube", "main", "ed25519", None, 1000),
    ):
        line = brokers[vo].make_key(entry, kind, bits)
        public[vo, entry] = parse_authorized(line).blob
        # The same key at another site as well: what an attacker would wish to find.
        for host in ("login", "outside"):
            authorise(lab, host, "pilot", f"restrict,port-forwarding {line}")
        options = ["--maintain"] if entry == "main" else []
        brokers[vo].add_key(entry, "login", "--burst", str(burst), "--per-hour", "1", *options)
    handles = {(vo, entry): brokers[vo].handles(entry) for vo, entry in public}
    amend(lab, brokers["cms"], late={"not_after": "2001-01-01T00:00:00Z"}, early={"not_before": "2097-01-01T00:00:00Z"})
    for found in handles.values():
        await_offer(relay, found[SUBMIT])
    with attacker(lab, "factory", FACTORY_USER) as intruder:
        yield World(lab, relay, brokers, handles, public, intruder)
    for daemon in (relay.daemon, *(broker.daemon for broker in brokers.values())):
        daemon.stop()


def amend(lab: Lab, broker: Broker, **entries: dict[str, Any]) -> None:
    """Set values of entries in the policy, by hand, and have it read again."""
    path = f"{BROKER_DIR}/policy.json"

    def loads() -> int:
        return lab.read_file(broker.host, AUDIT).count('"event":"policy"')

    policy = json.loads(lab.read_file(broker.host, path))
    for name, values in entries.items():
        policy["handles"][name].update(values)
    before = loads()
    lab.write_file(broker.host, path, json.dumps(policy), f"{BROKER_USER}:{BROKER_USER}", 0o640)
    broker.daemon.signal("HUP")
    await_true(lambda: loads() > before, "the policy is read again")


# --- what is asked of the relay's sockets and of the broker alike ---


def _other_host(world: World) -> Attempt:
    """A login at another host, where the same key is authorised; all of it is genuine."""
    return world.login(where=OTHER_SITE)


def _own_host(world: World) -> Attempt:
    """The attacker's own server, with a key of its own."""
    honest = world.login()
    signature = OWN.sign(honest.request.session_id)
    return honest.with_bind(host_key=OWN.blob, signature=signature).with_request(host_key=OWN.blob)


def _other_user(world: World) -> Attempt:
    return world.login().with_request(user="root")


def _altered_session_id(world: World) -> Attempt:
    honest = world.login()
    return honest.with_request(session_id=_flip(honest.request.session_id))


def _altered_session_id_everywhere(world: World) -> Attempt:
    """The registered host's signature stands for another session."""
    honest = world.login()
    altered = _flip(honest.request.session_id)
    return honest.with_bind(session_id=altered).with_request(session_id=altered)


def _session_of_the_other_host(world: World) -> Attempt:
    """A genuine bind of the registered host goes before the login at the other host."""
    return replace(world.login(where=OTHER_SITE), binds=world.login().binds)


def _altered_host_signature(world: World) -> Attempt:
    honest = world.login()
    return honest.with_bind(signature=_flip(honest.bind.signature))


def _host_signature_by_another_key(world: World) -> Attempt:
    honest = world.login()
    return honest.with_bind(signature=OWN.sign(honest.request.session_id))


def _no_proof(world: World) -> Attempt:
    return replace(world.login(), binds=())


def _forwarded_agent(world: World) -> Attempt:
    return world.login().with_bind(is_forwarding=True)


def _two_binds(world: World) -> Attempt:
    honest = world.login()
    return replace(honest, binds=honest.binds * 2)


def _bind_of_a_forwarding_hop_first(world: World) -> Attempt:
    """As from an agent forwarded to the registered host, and used there for a further login."""
    honest = world.login()
    return replace(honest, binds=(world.login().with_bind(is_forwarding=True).binds[0], *honest.binds))


def _failed_bind_then_evidence(world: World) -> Attempt:
    honest = world.login()
    failed = honest.with_bind(signature=_flip(honest.bind.signature))
    return replace(failed, evidence=honest.by_evidence().evidence)


def _malformed_bind_then_evidence(world: World) -> Attempt:
    return replace(world.login().by_evidence(), binds=(b"\0\0\0",))


def _evidence_of_another_session(world: World) -> Attempt:
    return replace(world.login(), binds=(), evidence=world.login().by_evidence().evidence)


def _evidence_of_another_host(world: World) -> Attempt:
    return world.login(where=OTHER_SITE).by_evidence()


def _hostbound_mismatch(world: World) -> Attempt:
    return world.login().with_request(host_key=OWN.blob)


def _hostbound_mismatch_by_evidence(world: World) -> Attempt:
    return world.login().with_request(host_key=OWN.blob).by_evidence()


def _sshsig(world: World) -> Attempt:
    """`ssh-keygen -Y sign`. Source: PROTOCOL.sshsig of OpenSSH, the signed data."""
    data = b"SSHSIG" + text("git") + text("") + text("sha512") + string(os.urandom(64))
    return replace(world.login(), data=data)


def _host_key_proof(world: World) -> Attempt:
    """Source: PROTOCOL of OpenSSH, 2.5, hostkeys-prove-00@openssh.com."""
    honest = world.login()
    data = text("hostkeys-prove-00@openssh.com") + string(honest.request.session_id) + string(honest.key_blob)
    return replace(honest, data=data)


def _certificate_to_sign(world: World) -> Attempt:
    """The key as a certificate authority. Source: PROTOCOL.certkeys, ssh-ed25519-cert-v01@openssh.com."""
    honest = world.login()
    data = text("ssh-ed25519-cert-v01@openssh.com") + string(os.urandom(32)) + OWN.fields + bytes(8) + uint32(1)
    return replace(honest, data=data + text("any") + string(text("pilot")) + bytes(28) + string(honest.key_blob))


def _tls_client_proof(_world: World) -> bytes:
    """Source: RFC 8446 section 4.4.3."""
    return b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + os.urandom(32)


def _tls(world: World) -> Attempt:
    return replace(world.login(), data=_tls_client_proof(world))


def _hash_to_sign(world: World) -> Attempt:
    return replace(world.login(), data=os.urandom(32))


def _other_service(world: World) -> Attempt:
    honest = world.login()
    return replace(honest, data=honest.data.replace(text("ssh-connection"), text("ssh-userauth"), 1))


def _no_signature_wanted(world: World) -> Attempt:
    honest = world.login()
    algorithm = text(honest.request.algorithm)
    return replace(honest, data=honest.data.replace(boolean(True) + algorithm, boolean(False) + algorithm, 1))


def _hostbased_login(world: World) -> Attempt:
    """The key as a host key. Source: RFC 4252 section 9."""
    asked = world.login()
    request = asked.request
    data = string(request.session_id) + byte(50) + text("pilot") + text("ssh-connection") + text("hostbased")
    data += text("ssh-ed25519") + string(asked.key_blob) + text("factory") + text("factory")
    return replace(asked, data=data)


def _bytes_behind(world: World) -> Attempt:
    honest = world.login()
    return replace(honest, data=honest.data + b"\0")


def _other_key(world: World) -> Attempt:
    return world.login().with_request(key_blob=OWN.blob)


def _key_of_another_vo(world: World) -> Attempt:
    return world.login().with_request(key_blob=world.public["icecube", "main"])


def _rsa_name_for_ed25519(world: World) -> Attempt:
    return world.login().with_request(algorithm="rsa-sha2-512")


def _rsa_flags_for_ed25519(world: World) -> Attempt:
    return replace(world.login(), flags=4)


def _sha1_for_rsa(world: World) -> Attempt:
    return replace(world.login("rsa").with_request(algorithm="ssh-rsa"), flags=0)


def _sha1_by_flags(world: World) -> Attempt:
    return replace(world.login("rsa"), flags=0)


def _sha256_where_the_data_say_sha512(world: World) -> Attempt:
    return replace(world.login("rsa"), flags=2)


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@dataclass(frozen=True)
class Attack:
    """One row: what is asked for, and the code of the refusal."""

    make: Callable[[World], Attempt]
    code: DenyCode
    entry: str = "main"


ATTACKS = (
    Attack(_other_host, DenyCode.HOST_KEY),
    Attack(_own_host, DenyCode.HOST_KEY),
    Attack(_other_user, DenyCode.USER),
    Attack(_altered_session_id, DenyCode.SESSION_ID),
    Attack(_altered_session_id_everywhere, DenyCode.HOST_SIGNATURE),
    Attack(_session_of_the_other_host, DenyCode.SESSION_ID),
    Attack(_altered_host_signature, DenyCode.HOST_SIGNATURE),
    Attack(_host_signature_by_another_key, DenyCode.HOST_SIGNATURE),
    Attack(_no_proof, DenyCode.NO_PROOF),
    Attack(_forwarded_agent, DenyCode.FORWARDED),
    Attack(_two_binds, DenyCode.FORWARDED),
    Attack(_bind_of_a_forwarding_hop_first, DenyCode.FORWARDED),
    Attack(_failed_bind_then_evidence, DenyCode.HOST_SIGNATURE),
    Attack(_malformed_bind_then_evidence, DenyCode.MALFORMED),
    Attack(_evidence_of_another_session, DenyCode.HOST_SIGNATURE),
    Attack(_evidence_of_another_host, DenyCode.HOST_KEY),
    Attack(_hostbound_mismatch, DenyCode.HOSTBOUND),
    Attack(_hostbound_mismatch_by_evidence, DenyCode.HOSTBOUND),
    Attack(_sshsig, DenyCode.MALFORMED),
    Attack(_host_key_proof, DenyCode.MALFORMED),
    Attack(_certificate_to_sign, DenyCode.MALFORMED),
    Attack(_tls, DenyCode.MALFORMED),
    Attack(_hash_to_sign, DenyCode.MALFORMED),
    Attack(_other_service, DenyCode.MALFORMED),
    Attack(_no_signature_wanted, DenyCode.MALFORMED),
    Attack(_hostbased_login, DenyCode.MALFORMED),
    Attack(_bytes_behind, DenyCode.MALFORMED),
    Attack(_other_key, DenyCode.KEY),
    Attack(_key_of_another_vo, DenyCode.KEY),
    Attack(_rsa_name_for_ed25519, DenyCode.ALGORITHM),
    Attack(_rsa_flags_for_ed25519, DenyCode.ALGORITHM),
    Attack(_sha1_for_rsa, DenyCode.ALGORITHM, "rsa"),
    Attack(_sha1_by_flags, DenyCode.ALGORITHM, "rsa"),
    Attack(_sha256_where_the_data_say_sha512, DenyCode.ALGORITHM, "rsa"),
)
attacks = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.make.__name__.strip("_"))


class TestAtTheRelaysSockets:
    @attacks
    def test_refused(self, world: World, attack: Attack) -> None:
        refused_at_socket(world, attack.make(world), attack.code, attack.entry)

    @pytest.mark.parametrize("entry", ["main", "rsa"])
    def test_control_honest_login_is_signed(self, world: World, entry: str) -> None:
        honest = world.login(entry)
        assert honest.request.host_key == honest.bind.host_key, "the session is hostbound, as with any newer sshd"
        signed_at_socket(world, honest, entry)

    def test_control_evidence_of_the_key_exchange_is_enough(self, world: World) -> None:
        signed_at_socket(world, world.login().by_evidence())

    def test_control_same_request_again_is_signed_again(self, world: World) -> None:
        honest = world.login()
        assert signed_at_socket(world, honest) == signed_at_socket(world, honest)

    def test_replay_with_other_data(self, world: World) -> None:
        honest = world.login()
        signed_at_socket(world, honest)
        refused_at_socket(world, honest.with_request(host_key=None), DenyCode.REPLAY)

    def test_replay_of_a_signature_at_another_session(self, world: World) -> None:
        first, second = world.login(), world.login()
        signature = signed_at_socket(world, first)
        with pytest.raises(Exception, match="does not verify"):
            verify(parse_public_key(first.key_blob), signature, second.data)

    @pytest.mark.parametrize("entry", ["late", "early"])
    def test_outside_its_validity(self, world: World, entry: str) -> None:
        refused_at_socket(world, world.login(entry), DenyCode.NOT_NOW, entry)

    def test_rate(self, world: World) -> None:
        for _ in range(BURST_OF_SLOW):
            signed_at_socket(world, world.login("slow"), "slow")
        refused_at_socket(world, world.login("slow"), DenyCode.RATE, "slow")

    def test_disabled(self, world: World) -> None:
        with _reloaded(world):
            world.brokers["cms"].run("key", "disable", "main")
        try:
            refused_at_socket(world, world.login(), DenyCode.DISABLED)
        finally:
            with _reloaded(world):
                world.brokers["cms"].run("key", "enable", "main")
        signed_at_socket(world, world.login())

    def test_maintenance_only_while_it_is_open(self, world: World) -> None:
        attempt = world.login()
        refused_at_socket(world, attempt, DenyCode.PURPOSE_CLOSED, purpose="maintain")
        world.brokers["cms"].run("key", "open", "main", "--for", "1h")
        signed_at_socket(world, attempt, purpose="maintain")
        world.brokers["cms"].run("key", "close", "main")
        refused_at_socket(world, world.login(), DenyCode.PURPOSE_CLOSED, purpose="maintain")

    def test_another_key_than_the_sockets_never_reaches_the_broker(self, world: World) -> None:
        before = len(world.asked())
        assert world.intruder.ask_socket(world.socket(), replace(world.login(), key_blob=OWN.blob)) is None
        assert len(world.asked()) == before

    def test_user_who_is_not_allowed(self, world: World) -> None:
        """root passes the socket's mode but not the list; anybody else does not come as far."""
        before = len(world.asked())
        for user, answer in (("root", None), ("daemon", "PermissionError")):
            with attacker(world.lab, "factory", user) as stranger:
                assert stranger.do("talk", path=world.socket(), sent=["0b"]) == [answer]
        assert len(world.asked()) == before
        assert "uid 0" in world.relay.daemon.log()

    def test_control_real_ssh_logs_in(self, world: World) -> None:
        with signed(world):
            done = _ssh(world, SITE)
        assert done.stdout.split() == ["pilot"], done

    def test_real_ssh_does_not_log_in_at_the_other_host(self, world: World) -> None:
        before = len(world.asked())
        done = _ssh(world, OTHER_SITE, "-o", "StrictHostKeyChecking=no", "-o", f"IdentityAgent={world.socket()}")
        assert done.returncode == 255, done
        assert [record["code"] for record in world.asked()[before:]] == [DenyCode.HOST_KEY]


def _ssh(world: World, where: str, *options: str) -> subprocess.CompletedProcess[str]:
    conf = f"{SOCKETS}/{world.handle()}.conf"
    return world.lab.run("factory", ["ssh", "-F", conf, *options, where, "id", "-un"], user=FACTORY_USER, check=False)


# --- with the relay's TLS key: nothing of the relay's own checks is left ---


@pytest.fixture(scope="class")
def stolen(world: World) -> Iterator[Attacker]:
    """The relay's place, taken with its key; the broker of cms is connected to it."""
    world.relay.daemon.stop()
    with attacker(world.lab, "factory") as thief:
        _dial_again(world)
        thief.replace_relay(RELAY_KEY, PORT)
        await_true(lambda: _keys_are_ready(world), "all keys of cms are loaded")
        yield thief
        thief.do("hang_up")
    _as_before(world)


def _dial_again(world: World) -> None:
    """Start the brokers anew: after some lost connections they would wait up to a minute between two tries."""
    for broker in world.brokers.values():
        broker.daemon.stop()
    # Of icecube's broker nothing is asked meanwhile, and it would be the newer connection.
    world.brokers["cms"].daemon.start()


def _keys_are_ready(world: World) -> bool:
    lines = world.brokers["cms"].run("status", check=False).stdout.splitlines()
    keys = [line for line in lines if line.startswith("key ")]
    return bool(keys) and all(line.endswith(" ready") for line in keys)


def _as_before(world: World) -> None:
    """Start the relay and both brokers."""
    world.relay.daemon.start()
    _dial_again(world)
    world.brokers["icecube"].daemon.start()
    for found in world.handles.values():
        await_offer(world.relay, found[SUBMIT])


def denied_by_broker(
    world: World, thief: Attacker, attempt: Attempt, code: DenyCode, handle: Optional[str] = None
) -> Deny:
    """The broker denies with this code and says nothing more."""
    with one_denial(world, code):
        answer = thief.ask_broker(handle or world.handle(), attempt)
    assert isinstance(answer, Deny)
    assert answer.code == code
    return answer


def signed_by_broker(world: World, thief: Attacker, attempt: Attempt, entry: str = "main") -> None:
    """The broker gives a signature that the site would accept."""
    with signed(world):
        answer = thief.ask_broker(world.handle(entry), attempt)
    assert isinstance(answer, SignOk), answer
    verify(parse_public_key(world.public["cms", entry]), answer.signature, attempt.data)


class TestWithTheRelaysKey:
    @attacks
    def test_denied(self, world: World, stolen: Attacker, attack: Attack) -> None:
        denied_by_broker(world, stolen, attack.make(world), attack.code, world.handle(attack.entry))

    @pytest.mark.parametrize("entry", ["main", "rsa"])
    def test_control_honest_login_is_signed(self, world: World, stolen: Attacker, entry: str) -> None:
        signed_by_broker(world, stolen, world.login(entry), entry)

    def test_control_evidence_of_the_key_exchange_is_enough(self, world: World, stolen: Attacker) -> None:
        signed_by_broker(world, stolen, world.login().by_evidence())

    def test_bind_that_the_relay_says_was_tried(self, world: World, stolen: Attacker) -> None:
        attempt = replace(world.login().by_evidence(), context='{"bind_attempted": true}')
        denied_by_broker(world, stolen, attempt, DenyCode.NO_PROOF)

    def test_unknown_handle(self, world: World, stolen: Attacker) -> None:
        denied_by_broker(world, stolen, world.login(), DenyCode.UNKNOWN_HANDLE, "a" * 26)

    def test_handle_of_another_vo(self, world: World, stolen: Attacker) -> None:
        handle = world.handle(vo="icecube")
        denied_by_broker(world, stolen, world.login(), DenyCode.UNKNOWN_HANDLE, handle)

    def test_handle_of_another_entry(self, world: World, stolen: Attacker) -> None:
        denied_by_broker(world, stolen, world.login(), DenyCode.KEY, world.handle("rsa"))

    def test_maintenance_while_it_is_closed(self, world: World, stolen: Attacker) -> None:
        denied_by_broker(world, stolen, world.login(), DenyCode.PURPOSE_CLOSED, world.handle(purpose="maintain"))

    @pytest.mark.parametrize("entry", ["late", "early"])
    def test_outside_its_validity(self, world: World, stolen: Attacker, entry: str) -> None:
        denied = denied_by_broker(world, stolen, world.login(entry), DenyCode.NOT_NOW, world.handle(entry))
        assert bool(denied.retry_after_s) == (entry == "early")

    def test_rate(self, world: World, stolen: Attacker) -> None:
        for _ in range(BURST_OF_SLOW):
            signed_by_broker(world, stolen, world.login("slow"), "slow")
        denied = denied_by_broker(world, stolen, world.login("slow"), DenyCode.RATE, world.handle("slow"))
        assert denied.retry_after_s > 0

    def test_replay_with_other_data(self, world: World, stolen: Attacker) -> None:
        honest = world.login()
        signed_by_broker(world, stolen, honest)
        denied_by_broker(world, stolen, honest.with_request(host_key=None), DenyCode.REPLAY)

    def test_disabled_counts_at_once_and_for_open_connections(self, world: World, stolen: Attacker) -> None:
        broker, attempt = world.brokers["cms"], world.login()
        with _reloaded(world):
            broker.run("key", "disable", "main")
        denied_by_broker(world, stolen, attempt, DenyCode.DISABLED)
        with _reloaded(world):
            broker.run("key", "enable", "main")
        signed_by_broker(world, stolen, attempt)

    def test_factory_that_may_not_use_the_key_any_more(self, world: World, stolen: Attacker) -> None:
        broker, attempt = world.brokers["cms"], world.login()
        with _reloaded(world):
            broker.run("factory", "forbid", "lab", "main")
        denied_by_broker(world, stolen, attempt, DenyCode.FACTORY)
        with _reloaded(world):
            broker.run("factory", "allow", "lab", "main")
        signed_by_broker(world, stolen, attempt)

    @pytest.mark.usefixtures("stolen")
    def test_another_factorys_relay(self, world: World) -> None:
        """A relay that the broker knows and connects to, and for which this key is not registered."""
        broker, port = world.brokers["cms"], PORT + 1
        with attacker(world.lab, "factory") as other:
            pin = other.do("identity", folder="/root", name="other-relay")
            broker.run("factory", "add", "other", "--relay", f"factory:{port}", "--spki", pin)
            try:
                assert other.replace_relay("/root/other-relay", port) == ()
                denied_by_broker(world, other, world.login(), DenyCode.FACTORY)
            finally:
                with _reloaded(world):
                    broker.run("factory", "remove", "other")
            await_true(lambda: other.do("offer") is None, "a removed factory has no link any more")


@contextmanager
def _reloaded(world: World) -> Iterator[None]:
    """The broker of cms reads its policy once."""

    def loads() -> int:
        return sum(record["event"] == "policy" for record in world.audit())

    before = loads()
    yield
    await_true(lambda: loads() > before, "the policy is read again")


# --- who may connect at all ---


class TestAtTheRelaysPort:
    """A stranger in the network between frontend and factory, who can reach the relay's port."""

    @pytest.fixture
    def stranger(self, world: World) -> Iterator[Attacker]:
        with attacker(world.lab, "outside") as made:
            world.lab.run("outside", ["rm", "-f", "/root/own.key", "/root/own.crt"])
            made.do("identity", folder="/root", name="own")
            yield made

    @pytest.fixture(autouse=True)
    def _nothing_changes(self, world: World) -> Iterator[None]:
        """The brokers' links stand before and after, and nothing is asked of them."""
        links = _links(world)
        asked = len(world.asked())
        with nothing_changes(world):
            yield
        assert _links(world) == links
        assert len(world.asked()) == asked

    def test_tls_1_2(self, world: World, stranger: Attacker) -> None:
        with _relay_logs(world, "offers no TLS 1.3"):
            assert "refused" in stranger.do("tls", host="factory", port=PORT, base="/root/own", old=True)

    def test_no_client_certificate(self, world: World, stranger: Attacker) -> None:
        with _relay_logs(world, "shows no certificate"):
            assert "refused" in stranger.do("tls", host="factory", port=PORT)

    def test_key_that_is_not_registered(self, world: World, stranger: Attacker) -> None:
        refused = stranger.do("dial", base="/root/own", host="factory", port=PORT, pin=world.relay.pin)
        assert "no broker is registered with it" in refused

    def test_certificate_that_names_a_registered_broker(self, world: World, stranger: Attacker) -> None:
        """The same subject as the broker's, and another key."""
        stranger.do("identity", folder="/tmp", name="broker")
        refused = stranger.do("dial", base="/tmp/broker", host="factory", port=PORT, pin=world.relay.pin)
        assert "no broker is registered with it" in refused


@contextmanager
def _relay_logs(world: World, text: str) -> Iterator[None]:
    before = world.relay.daemon.log().count(text)
    yield
    await_true(lambda: world.relay.daemon.log().count(text) > before, f"the relay logs {text!r}")


def _links(world: World) -> list[tuple[str, str, str]]:
    return sorted((row["name"], row["state"], row["address"]) for row in world.relay.status()["brokers"])


class TestAtTheRelaysAddress:
    """Root at the factory, or somebody who has taken its address, without the relay's key."""

    @pytest.fixture
    def impostor(self, world: World) -> Iterator[Attacker]:
        world.relay.daemon.stop()
        asked = len(world.asked())
        with attacker(world.lab, "factory") as made:
            world.lab.run("factory", ["rm", "-f", "/root/own.key", "/root/own.crt"])
            made.do("identity", folder="/root", name="own")
            _dial_again(world)
            yield made
            made.do("hang_up")
        assert len(world.asked()) == asked, "a stranger was answered"
        _as_before(world)

    def test_another_key(self, world: World, impostor: Attacker) -> None:
        impostor.do("listen", base="/root/own", port=PORT)
        await_true(lambda: "registered is" in _trouble(world), "the broker says what is wrong")
        assert impostor.do("offer") is None
        assert impostor.do("ask", type=0x10, body="")["lost"] == "there is no link"

    def test_tls_1_2(self, world: World, impostor: Attacker) -> None:
        assert "refused" in impostor.do("listen_old", base=RELAY_KEY, port=PORT)
        await_true(lambda: "TLS 1.3" in _trouble(world), "the broker says what is wrong")


def _trouble(world: World) -> str:
    return world.brokers["cms"].run("status", check=False).stdout


# --- another VO's administrator ---


@pytest.fixture(scope="class")
def icecube(world: World) -> Iterator[Attacker]:
    broker = world.brokers["icecube"]
    broker.daemon.stop()
    with attacker(world.lab, broker.host, BROKER_USER) as made:
        assert made.do("dial", base=BROKER_KEY, host="factory", port=PORT, pin=world.relay.pin) is None
        yield made
        made.do("hang_up")
    broker.daemon.start()
    await_offer(world.relay, world.handle(vo="icecube"))


class TestAnotherVosBroker:
    """icecube's broker is registered at the factory, and its administrator wants to be cms."""

    def test_control_own_handle_is_served(self, world: World, icecube: Attacker) -> None:
        item = _item(world)
        assert icecube.offer(item).code == 0
        assert world.relay.offers(item.handle)

    def test_handle_of_another_broker(self, world: World, icecube: Attacker) -> None:
        item = replace(_item(world), handle=world.handle(), **_key(world))
        with _cms_is_served_by_cms(world):
            assert icecube.offer(item).code == DenyCode.NOT_YOURS

    def test_handle_of_another_broker_with_a_key_of_his_own(self, world: World, icecube: Attacker) -> None:
        with _cms_is_served_by_cms(world):
            assert icecube.offer(replace(_item(world), handle=world.handle())).code == DenyCode.NOT_YOURS

    def test_key_of_another_broker_gives_another_handle(self, world: World, icecube: Attacker) -> None:
        """He may offer cms's public key: the handle is then his own, and no signature of that key ever comes."""
        item = replace(_item(world), **_key(world))
        assert icecube.offer(item).code == DenyCode.NOT_YOURS
        own = replace(item, handle=_own_handle(world, item.pubkey_blob))
        with _cms_is_served_by_cms(world):
            assert icecube.offer(own).code == 0
        assert own.handle != world.handle()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("known_hosts_text", "login {key}\noutside {key}\n"),
            ("known_hosts_text", "* {key}\n"),
            ("known_hosts_text", "login,outside {key}\n"),
            ("known_hosts_text", "login {key} x\r\n"),
            ("known_hosts_text", "@cert-authority * {key}\n"),
            ("known_hosts_text", "|1|aaaa=|bbbb= {key}\n"),
            ("known_hosts_text", "login ssh-ed25519 AAAA\n"),
            ("known_hosts_text", ""),
            ("user", "pilot -o ProxyCommand=id"),
            ("user", "pilot\nProxyCommand id"),
            ("user", "-oProxyCommand=id"),
            ("user", ""),
            ("hosts", "login:22,outside"),
            ("hosts", "login:22 ProxyCommand=id"),
            ("hosts", "login\nProxyCommand id:22"),
            ("hosts", "*:22"),
            ("hosts", "-oProxyCommand=id:22"),
            ("hosts", "login:0"),
            ("hosts", ""),
            ("purpose", "root"),
        ],
    )
    def test_hostile_values(self, world: World, icecube: Attacker, field: str, value: str) -> None:
        """Nothing of an offer reaches a file of ssh before it has been understood."""
        item = _item(world)
        key = item.known_hosts_text.split("\n")[0].partition(" ")[2]
        changed: dict[str, Any] = {field: value.replace("{key}", key)}
        assert icecube.offer(replace(item, **changed)).code == DenyCode.MALFORMED
        files = world.lab.run("factory", ["ls", SOCKETS]).stdout
        assert item.handle not in files
        assert "ProxyCommand" not in world.lab.run("factory", ["sh", "-c", f"cat {SOCKETS}/*.conf"]).stdout


def _key(world: World) -> dict[str, Any]:
    """The key of cms, in an offer."""
    return dict.fromkeys(("pubkey_blob", "anchor"), world.public["cms", "main"])


def _own_handle(world: World, key_blob: bytes) -> str:
    certificate = x509.load_pem_x509_certificate(world.lab.read_file("frontend2", f"{BROKER_KEY}.crt").encode())
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return handle_id(spki, key_blob, SUBMIT)


def _item(world: World) -> OfferItem:
    """What icecube's broker offers by rights."""
    keys = world.lab.run("login", ["sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]).stdout
    return OfferItem(
        handle=world.handle(vo="icecube"),
        pubkey_blob=world.public["icecube", "main"],
        anchor=world.public["icecube", "main"],
        cert_blob=b"",
        comment="gwms-broker:main:submit",
        purpose=SUBMIT,
        user="pilot",
        hosts="login:22",
        known_hosts_text="".join(f"login {' '.join(line.split()[:2])}\n" for line in keys.splitlines()),
        not_before=0,
        not_after=0,
        flags=0,
    )


@contextmanager
def _cms_is_served_by_cms(world: World) -> Iterator[None]:
    yield
    (row,) = [row for row in world.relay.status()["handles"] if row["handle"] == world.handle()]
    assert (row["name"], row["broker_pin"]) == ("cms", world.brokers["cms"].pin)
    signed_at_socket(world, world.login())


@pytest.fixture(scope="class")
def handle_file(world: World) -> str:
    world.brokers["icecube"].deliver("main")
    return world.brokers["cms"].deliver("main")


class TestAnotherVosFrontend:
    """glideinWMS writes what a frontend sends to that frontend's own folder, and names it to remote_gahp."""

    def test_control_own_handle_file(self, world: World, handle_file: str) -> None:
        with signed(world):
            done = _gahp(world, handle_file)
        assert "GWMS-SSH-BROKER" not in done.stderr

    def test_handle_file_of_another_vo_verbatim(self, world: World, handle_file: str) -> None:
        copy = f"{world.brokers['icecube'].credentials}/glidein_gfactory/credential_icecube_stolen"
        world.lab.run("factory", ["cp", "--preserve", handle_file, copy])
        self._refused(world, copy)

    def test_link_to_the_handle_file_of_another_vo(self, world: World, handle_file: str) -> None:
        link = f"{world.brokers['icecube'].credentials}/glidein_gfactory/credential_icecube_link"
        world.lab.run("factory", ["ln", "-sf", handle_file, link])
        self._refused(world, link)

    def test_link_among_the_vos_own_files(self, world: World, handle_file: str) -> None:
        link = f"{handle_file}-link"
        world.lab.run("factory", ["ln", "-sf", handle_file, link])
        self._refused(world, link)

    def test_linked_folder(self, world: World, handle_file: str) -> None:
        folder, _, name = handle_file.rpartition("/")
        link = f"{world.brokers['icecube'].credentials}/glidein_link"
        world.lab.run("factory", ["ln", "-sfn", folder, link])
        self._refused(world, f"{link}/{name}")

    def test_path_that_leads_out(self, world: World, handle_file: str) -> None:
        inside = world.brokers["icecube"].credentials
        self._refused(world, f"{inside}/../user_fecms/{handle_file.split('user_fecms/')[1]}")

    def test_handle_file_at_a_place_of_nobody(self, world: World, handle_file: str) -> None:
        world.lab.run("factory", ["install", "-o", FACTORY_USER, "-m", "0600", handle_file, "/home/factory/handle"])
        self._refused(world, "/home/factory/handle")

    @staticmethod
    def _refused(world: World, path: str) -> None:
        asked = len(world.asked()), len(world.asked("icecube"))
        with nothing_changes(world):
            done = _gahp(world, path)
        (line,) = done.stderr.splitlines()
        assert line.startswith("GWMS-SSH-BROKER: DENY 19: ")
        assert done.returncode == 1
        assert not done.stdout
        assert (len(world.asked()), len(world.asked("icecube"))) == asked

    def test_second_key_option_in_the_user_name(self, world: World, handle_file: str) -> None:
        """A frontend may choose the remote user name, and the gridmanager splits the grid resource at blanks."""
        own = f"{world.brokers['icecube'].credentials}/glidein_gfactory/credential_icecube_main"
        asked = len(world.asked())
        done = _gahp(world, own, "--rgahp-key", handle_file)
        assert done.returncode == 1
        assert "one more key option" in done.stderr
        assert len(world.asked()) == asked


def _gahp(world: World, path: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Start remote_gahp as the gridmanager does for this key file."""
    argv = [LAUNCHER, "--rgahp-key", path, "--rgahp-nopass", *more, "--rgahp-glite", "~/none/glite", SITE, "batch_gahp"]
    return world.lab.run("factory", argv, user=FACTORY_USER, check=False)
