# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.broker.audit_check import verify as verify_audit
from glideinwms_bosco.broker.backends.agent_process import KeyFileBackend
from glideinwms_bosco.broker.backends.exec_key import ExecKeyBackend
from glideinwms_bosco.broker.dialer import QUICK_RETURNS
from glideinwms_bosco.broker.opened import close_entry, open_entry
from glideinwms_bosco.broker.policy import Policy, load_policy
from glideinwms_bosco.broker.service import TICK_S, Broker
from glideinwms_bosco.broker.status_file import read_status
from glideinwms_bosco.errors import BrokerError, LinkError, PolicyFileError
from glideinwms_bosco.link.backoff import Backoff
from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.messages import Deny, Offer, OfferAck, OfferFlag, SignOk
from glideinwms_bosco.sshwire.certificate import parse_certificate
from glideinwms_bosco.sshwire.handle import handle_id
from glideinwms_bosco.sshwire.keys import verify
from glideinwms_bosco.sshwire.userauth import parse_userauth
from tests.unit.broker_keys import KINDS, make_ssh_key, secret_file, short_folder, until
from tests.unit.broker_world import BrokerWorld, StandInRelay, children, login_request
from tests.unit.ssh_builder import Ed25519Signer
from tests.unit.ssh_version import needs_session_bind
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd", "short_folder"]

Body = Callable[[Broker, StandInRelay], Awaitable[None]]
PROGRAM = "import sys; from glideinwms_bosco.cli.ssh_broker import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def world(short_folder: Path) -> BrokerWorld:
    return BrokerWorld(short_folder)


def _run(world: BrokerWorld, body: Body) -> None:
    async def run() -> None:
        async with world.running() as (broker, relay):
            await body(broker, relay)

    asyncio.run(run())


def _agent_of(world: BrokerWorld, number: int) -> int:
    """Pid of the ssh-agent of the entry that stands at this place (1-based) in the policy."""
    socket = str(world.paths.run_dir / "keys" / str(number) / "agent")
    (found,) = [pid for pid, argv in children() if argv[-1:] == [socket]]
    return found


def _agents(world: BrokerWorld) -> list[str]:
    """Sockets of the broker's ssh-agents."""
    return [argv[-1] for _, argv in children() if argv and argv[-1].startswith(str(world.folder))]


@pytest.mark.parametrize("kind", KINDS)
def test_signs_for_every_type_of_key(world: BrokerWorld, kind: str) -> None:
    key = world.add_key("site", kind)

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        request = login_request(relay.items["site", "submit"])
        verify(key, await relay.sign(request), request.data)

    _run(world, body)


def test_offer_says_what_the_policy_says(world: BrokerWorld) -> None:
    key = world.add_key("site", maintain={"rate": {"burst": 5, "per_hour": 5}}, require="unproven")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        item = relay.items["site", "submit"]
        assert item.handle == handle_id(world.identity.spki_der, key.blob, "submit")
        assert (item.pubkey_blob, item.user, item.hosts) == (key.blob, "pilot", "site.example.org:22")
        assert item.known_hosts_text.startswith("site.example.org ssh-ed25519 ")
        assert item.flags == OfferFlag.UNPROVEN
        # Offered while closed, so that the factory can say why it is refused.
        assert relay.items["site", "maintain"].handle != item.handle

    _run(world, body)


@needs_session_bind
def test_real_ssh_logs_in_through_broker_and_relay(world: BrokerWorld, loopback_sshd: LoopbackSshd) -> None:
    key = world.add_key(
        "site",
        user=loopback_sshd.user,
        hosts=[{"name": "127.0.0.1", "port": loopback_sshd.port, "keys": [loopback_sshd.host_key]}],
    )
    (loopback_sshd.directory / "authorized_keys").write_text(f"{key.authorized}\n")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        item = relay.items["site", "submit"]
        known_hosts = world.folder / "known_hosts"
        known_hosts.write_text(item.known_hosts_text)
        async with relay.agent(world.folder / "sock", item):
            status, output = await _ssh(world, loopback_sshd)
        assert status == 0, output
        assert "logged in" in output.splitlines()

    _run(world, body)
    (record,) = [record for record in world.audit() if record["event"] == "sign"]
    assert (record["proof"], record["user"], record["entry"]) == ("session-bind", loopback_sshd.user, "site")
    assert key.fingerprint in loopback_sshd.log.read_text()


@needs_session_bind
def test_ssh_to_another_host_gets_no_signature(world: BrokerWorld, loopback_sshd: LoopbackSshd) -> None:
    """A factory that was taken over sends the login elsewhere: the key is good there, the host is not registered."""
    key = world.add_key("site", user=loopback_sshd.user)
    (loopback_sshd.directory / "authorized_keys").write_text(f"{key.authorized}\n")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        known_hosts = world.folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{loopback_sshd.port} {loopback_sshd.host_key}\n")
        async with relay.agent(world.folder / "sock", relay.items["site", "submit"]):
            status, output = await _ssh(world, loopback_sshd)
        assert status == 255
        assert "Permission denied (publickey)" in output
        assert [deny.code for deny in relay.denials] == [DenyCode.HOST_KEY]

    _run(world, body)


async def _ssh(world: BrokerWorld, sshd: LoopbackSshd) -> tuple[int, str]:
    options = [
        f"IdentityAgent={world.folder / 'sock'}", f"UserKnownHostsFile={world.folder / 'known_hosts'}",
        "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes", "BatchMode=yes", "IdentityFile=/dev/null",
        "PreferredAuthentications=publickey", "UpdateHostKeys=no",
    ]  # fmt: skip
    argv = ["ssh", "-F", "/dev/null", "-p", str(sshd.port), *(word for option in options for word in ("-o", option))]
    pipe, out = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(
        *argv, f"{sshd.user}@127.0.0.1", "echo logged in", stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=out
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, output.decode()


def test_hung_agent_denies_18_in_time_and_holds_up_no_other_entry(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glideinwms_bosco.broker.backends.make.make_backend.__defaults__", (2.0,))
    hung, other = world.add_key("hung"), world.add_key("other")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        os.kill(_agent_of(world, 1), signal.SIGSTOP)
        requests = [login_request(relay.items["hung", "submit"]) for _ in range(20)]
        waiting = [asyncio.ensure_future(relay.ask(request)) for request in requests]
        for _ in range(20):
            request = login_request(relay.items["other", "submit"])
            verify(other, await relay.sign(request), request.data)
        assert not any(task.done() for task in waiting), "other entries waited for the agent that hangs"
        first, *others = await asyncio.gather(*waiting)
        assert isinstance(first, Deny) and first.code == DenyCode.INTERNAL
        assert "the key of hung cannot be used now" in first.reason
        assert str(world.folder) not in first.reason
        # The first silence ends the agent, with the connections of those that have asked a moment later: they are
        # asked again and signed by the next agent, or time has run out for them as well.
        for request, answer in zip(requests[1:], others):
            if isinstance(answer, SignOk):
                verify(hung, answer.signature, request.data)
            else:
                assert isinstance(answer, Deny) and answer.code == DenyCode.INTERNAL
        request = login_request(relay.items["hung", "submit"])
        verify(hung, await relay.sign(request), request.data)

    _run(world, body)


def test_killed_agent_is_back_before_the_answer(world: BrokerWorld) -> None:
    key = world.add_key("site")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        await relay.sign(login_request(relay.items["site", "submit"]))
        os.kill(_agent_of(world, 1), signal.SIGKILL)
        request = login_request(relay.items["site", "submit"])
        verify(key, await relay.sign(request), request.data)

    _run(world, body)


def test_wrong_passphrase_is_that_entrys_trouble_alone(world: BrokerWorld, caplog: pytest.LogCaptureFixture) -> None:
    good = world.add_key("good")
    world.add_key("bad")
    file = world.paths.config_dir / "bad"
    file.unlink()
    make_ssh_key(file, passphrase="right")
    secret = secret_file(world.folder / "secret", "wrong")
    world.policy["handles"]["bad"]["key"]["passphrase"] = secret

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        request = login_request(relay.items["good", "submit"])
        verify(good, await relay.sign(request), request.data)
        deny = await relay.denied(login_request(relay.items["bad", "submit"]))
        assert deny.code == DenyCode.INTERNAL

    _run(world, body)
    lines = [record.getMessage() for record in caplog.records if "passphrase is wrong" in record.getMessage()]
    assert lines[0].startswith(f"bad: {file}: the passphrase is wrong")


def test_disabled_entry_is_refused_at_the_next_request(world: BrokerWorld) -> None:
    world.add_key("site")

    async def body(broker: Broker, relay: StandInRelay) -> None:
        request = login_request(relay.items["site", "submit"])
        await relay.sign(request)
        world.policy["handles"]["site"]["enabled"] = False
        world.write_policy()
        broker.reload()
        assert (await relay.denied(request)).code == DenyCode.DISABLED
        # Its key is let go; the handle goes on to be offered, also to a relay that comes later.
        await until(lambda: not _agents(world))
        again = world.add_key("other")
        world.write_policy()
        broker.reload()
        await until(lambda: ("other", "submit") in relay.items)
        assert relay.items["site", "submit"].handle == request.handle
        assert (await relay.denied(login_request(relay.items["site", "submit"]))).code == DenyCode.DISABLED
        verify(again, await relay.sign(request := login_request(relay.items["other", "submit"])), request.data)

    _run(world, body)


def test_disabled_entry_is_refused_as_such_after_a_restart_too(world: BrokerWorld) -> None:
    """Also when no file tells its public key: the broker has seen it before."""
    world.add_key("site")
    (world.paths.config_dir / "site.pub").unlink()

    async def sign(_broker: Broker, relay: StandInRelay) -> None:
        await until(lambda: ("site", "submit") in relay.items)
        await relay.sign(login_request(relay.items["site", "submit"]))

    async def refuse(_broker: Broker, relay: StandInRelay) -> None:
        assert (await relay.denied(login_request(relay.items["site", "submit"]))).code == DenyCode.DISABLED

    _run(world, sign)
    world.policy["handles"]["site"]["enabled"] = False
    world.policy["factories"].clear()
    world.relay.offers.clear()
    _run(world, refuse)


def test_login_that_is_under_way_when_a_fetch_brings_another_key_gets_its_signature(world: BrokerWorld) -> None:
    keys = [make_ssh_key(world.folder / f"key{number}") for number in (1, 2, 3)]
    program = world.folder / "fetch"
    program.write_text(f'#!/bin/sh\ncd {world.folder}\necho >> runs\ncat "key$(wc -l < runs)"\n')
    program.chmod(0o755)
    world.add_key("site")
    world.policy["handles"]["site"]["key"] = {"backend": "exec", "command": [str(program)]}

    async def body(broker: Broker, relay: StandInRelay) -> None:
        def offered() -> bytes:
            return relay.items["site", "submit"].pubkey_blob if relay.items else b""

        backend = broker._ring.backend(load_policy(world.paths.policy).entries["site"].key)
        assert isinstance(backend, ExecKeyBackend)
        await until(lambda: offered() == keys[0].blob)
        first = relay.items["site", "submit"]
        backend._again.set()
        await until(lambda: offered() == keys[1].blob)
        assert relay.items["site", "submit"].handle == first.handle
        for item, key in ((first, keys[0]), (relay.items["site", "submit"], keys[1])):
            request = login_request(item)
            verify(key, await relay.sign(request), request.data)
        backend._again.set()
        await until(lambda: offered() == keys[2].blob)
        assert (await relay.denied(login_request(first))).code == DenyCode.KEY

    _run(world, body)
    assert [r["key"] for r in world.audit() if r["event"] == "sign"] == [key.fingerprint for key in keys[:2]]


def test_sighup_uses_a_valid_policy_and_offers_anew(world: BrokerWorld) -> None:
    world.add_key("site")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        first = relay.offers[-1].generation
        kept = _agent_of(world, 1)
        new = world.add_key("new")
        world.write_policy()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: ("new", "submit") in relay.items)
        assert relay.offers[-1].generation > first
        request = login_request(relay.items["new", "submit"])
        verify(new, await relay.sign(request), request.data)
        # A key that stays is not loaded again: its passphrase may be out of reach by now.
        assert _agent_of(world, 1) == kept

    _run(world, body)


def test_mended_key_is_loaded_at_a_reload(world: BrokerWorld) -> None:
    key = world.add_key("site")
    file = world.paths.config_dir / "site"
    file.rename(world.folder / "away")

    async def body(broker: Broker, relay: StandInRelay) -> None:
        assert (await relay.denied(login_request(relay.items["site", "submit"]))).code == DenyCode.INTERNAL
        (world.folder / "away").rename(file)
        broker.reload()
        await until(lambda: broker.keys_tried)
        request = login_request(relay.items["site", "submit"])
        verify(key, await relay.sign(request), request.data)

    _run(world, body)


def test_policy_with_problems_changes_nothing_and_is_told(world: BrokerWorld, caplog: pytest.LogCaptureFixture) -> None:
    key = world.add_key("site")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        world.paths.policy.write_text(world.paths.policy.read_text().replace('"user"', '"usr"'))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "the policy in use stays in use" in caplog.text)
        request = login_request(relay.items["site", "submit"])
        verify(key, await relay.sign(request), request.data)
        await until(lambda: "usr" in (world.status("policy", "trouble") or ""))

    _run(world, body)
    assert "did you mean 'user'" in caplog.text


def test_second_key_of_a_reload_that_is_another_entrys_is_refused(world: BrokerWorld) -> None:
    key = world.add_key("site")

    async def body(broker: Broker, relay: StandInRelay) -> None:
        world.add_key("copy")
        for suffix in ("", ".pub"):
            copied = (world.paths.config_dir / f"site{suffix}").read_bytes()
            (world.paths.config_dir / f"copy{suffix}").write_bytes(copied)
        world.write_policy()
        broker.reload()
        request = login_request(relay.items["site", "submit"])
        verify(key, await relay.sign(request), request.data)
        assert ("copy", "submit") not in relay.items

    _run(world, body)


def test_maintain_is_signed_only_while_it_is_open(world: BrokerWorld) -> None:
    world.add_key("site", maintain={"rate": {"burst": 100, "per_hour": 100}})

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        item = relay.items["site", "maintain"]
        assert (await relay.denied(login_request(item))).code == DenyCode.PURPOSE_CLOSED
        open_entry(world.paths.state_dir, "site", 60, time.time())
        await relay.sign(login_request(item))
        close_entry(world.paths.state_dir, "site", time.time())
        assert (await relay.denied(login_request(item))).code == DenyCode.PURPOSE_CLOSED

    _run(world, body)


def test_every_refusal_and_signature_stands_in_a_whole_log(world: BrokerWorld) -> None:
    world.add_key("site")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        item = relay.items["site", "submit"]
        await relay.sign(login_request(item))
        assert (await relay.denied(login_request(item, host=Ed25519Signer(3)))).code == DenyCode.HOST_KEY

    _run(world, body)
    events = [record["event"] for record in world.audit()]
    assert events == ["start", "sign", "deny", "stop"]
    assert not verify_audit(world.paths.log_dir, broker_pin=world.identity.pin).findings


def test_unwritable_audit_log_means_no_signature(world: BrokerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_key("site")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        def full(*_args: Any) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("glideinwms_bosco.broker.audit.os.write", full)
            deny = await relay.denied(login_request(relay.items["site", "submit"]))
        assert (deny.code, deny.reason) == (DenyCode.INTERNAL, "the broker cannot write its audit log")
        await relay.sign(login_request(relay.items["site", "submit"]))

    _run(world, body)


def test_handles_that_a_relay_refuses_are_in_the_status(world: BrokerWorld) -> None:
    world.add_key("site")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        handle = relay.items["site", "submit"].handle
        relay.refuse[handle] = "not in relay.conf"
        world.add_key("new")
        world.write_policy()
        _broker.reload()
        await until(lambda: world.status("factories", "fact", "refused") == {handle: "not in relay.conf"})

    _run(world, body)


def test_certificate_of_the_ca_is_offered_and_signed_for(world: BrokerWorld) -> None:
    ca = make_ssh_key(world.paths.config_dir / "ca")
    key = world.add_key(
        "site",
        cert={
            "mode": "cert+sign",
            "ca": {"backend": "ssh-agent", "file": str(world.paths.config_dir / "ca")},
            "principals": ["gwms-pilot"],
        },
    )

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        await until(lambda: bool(relay.items["site", "submit"].cert_blob))
        item = relay.items["site", "submit"]
        certificate = parse_certificate(item.cert_blob)
        assert (certificate.ca.blob, certificate.key.blob, certificate.principals) == (
            ca.blob,
            key.blob,
            ("gwms-pilot",),
        )
        assert b"127.0.0.0/8" in certificate.critical_options["source-address"]
        request = login_request(item, item.cert_blob)
        verify(key, await relay.sign(request), request.data)

    _run(world, body)
    (record,) = [record for record in world.audit() if record["event"] == "sign"]
    assert record["cert_key_id"] == "gwms:site:submit:fact"
    assert record["cert_serial"] > 0


def test_certificate_of_another_maker_is_refused(world: BrokerWorld) -> None:
    """Same CA, same content, but not the one that was issued."""
    ca = world.paths.config_dir / "ca"
    make_ssh_key(ca)
    world.add_key(
        "site",
        cert={"mode": "cert+sign", "ca": {"backend": "ssh-agent", "file": str(ca)}, "principals": ["gwms-pilot"]},
    )

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        item = relay.items["site", "submit"]
        public = world.paths.config_dir / "site.pub"
        argv = ["ssh-keygen", "-q", "-s", str(ca), "-I", "x", "-n", "gwms-pilot", "-V", "+1h", str(public)]
        subprocess.run(argv, check=True)
        text = (world.paths.config_dir / "site-cert.pub").read_text().split()[1]
        deny = await relay.denied(login_request(item, base64.b64decode(text)))
        assert deny.code == DenyCode.KEY

    _run(world, body)


def test_relay_with_another_key_gets_nothing(world: BrokerWorld) -> None:
    """Somebody has taken over the relay's address."""
    world.add_key("site")
    world.pins = ["sha256:" + "0" * 64]

    async def run() -> None:
        async with world.listening() as relay:
            broker = Broker(world.paths)
            task = asyncio.ensure_future(broker.run())
            await until(lambda: "shows the key" in (world.status("factories", "fact", "trouble") or ""))
            assert not relay.offers
            broker.stop()
            await task

    asyncio.run(run())


def test_relay_that_comes_late_is_found(world: BrokerWorld) -> None:
    world.add_key("site")

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        first = relay.connection
        assert first is not None
        seen = len(relay.offers)
        first.close("the relay restarts")
        await until(lambda: len(relay.offers) > seen)
        await relay.sign(login_request(relay.items["site", "submit"]))

    _run(world, body)


class _Delays(Backoff):
    """Says when it was started over, and makes nobody wait."""

    resets = 0

    def next_delay_s(self) -> float:
        return 0.01

    def reset(self) -> None:
        _Delays.resets += 1


def test_restarted_relay_is_dialled_again_at_once_but_not_for_ever(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_key("site")
    monkeypatch.setattr("glideinwms_bosco.broker.dialer.Backoff", _Delays)
    monkeypatch.setattr(_Delays, "resets", 0)

    async def body(broker: Broker, relay: StandInRelay) -> None:
        ((dialer, _),) = broker._dialers.values()
        for _ in range(QUICK_RETURNS + 3):
            await until(lambda: dialer._offer_taken)
            last = relay.connection
            assert last is not None
            relay.offers.clear()
            last.close("the relay restarts")
            await until(lambda: bool(relay.offers))

    _run(world, body)
    assert _Delays.resets == QUICK_RETURNS


def test_relay_that_takes_no_offer_is_dialled_with_growing_delays(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_key("site")
    monkeypatch.setattr("glideinwms_bosco.broker.dialer.Backoff", _Delays)
    monkeypatch.setattr(_Delays, "resets", 0)

    async def refuse(relay: StandInRelay, offer: Offer) -> OfferAck:
        relay.offers.append(offer)
        raise LinkError("no offer is taken here")

    monkeypatch.setattr(StandInRelay, "_offered", refuse)

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        await until(lambda: len(relay.offers) > 3)

    _run(world, body)
    assert _Delays.resets == 0


def test_many_reload_signals_are_one_reload(world: BrokerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_key("site")
    loads: list[Path] = []

    def load(path: Path) -> Policy:
        loads.append(path)
        return load_policy(path)

    async def body(broker: Broker, _relay: StandInRelay) -> None:
        monkeypatch.setattr("glideinwms_bosco.broker.service.load_policy", load)
        for _ in range(50):
            broker._reload_soon()
        await until(lambda: bool(loads))

    _run(world, body)
    assert len(loads) == 1


def _with_ca(world: BrokerWorld) -> Path:
    """Add an entry with certificates; return the CA's file."""
    ca = world.paths.config_dir / "ca"
    make_ssh_key(ca)
    cert = {"mode": "cert+sign", "ca": {"backend": "ssh-agent", "file": str(ca)}, "principals": ["gwms-pilot"]}
    world.add_key("site", cert=cert)
    return ca


def test_ca_that_loads_slowly_is_waited_for(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ca = _with_ca(world)
    load_at_once = KeyFileBackend._load_key

    async def load(backend: KeyFileBackend, socket: Path) -> None:
        if backend._file.path == ca:
            await asyncio.sleep(3 * TICK_S)
        await load_at_once(backend, socket)

    monkeypatch.setattr(KeyFileBackend, "_load_key", load)
    monkeypatch.setattr("glideinwms_bosco.broker.certified.RETRY_S", 1000.0)

    async def body(_broker: Broker, relay: StandInRelay) -> None:
        await until(lambda: bool(relay.items["site", "submit"].cert_blob))

    _run(world, body)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_mended_ca_certifies_right_after_the_reload(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ca = _with_ca(world)
    ca.rename(world.folder / "away")
    monkeypatch.setattr("glideinwms_bosco.broker.certified.RETRY_S", 1000.0)

    async def body(broker: Broker, relay: StandInRelay) -> None:
        await until(lambda: "site: its CA: " in caplog.text)
        (world.folder / "away").rename(ca)
        broker.reload()
        await until(lambda: bool(relay.items["site", "submit"].cert_blob))

    _run(world, body)


def test_only_one_broker_runs_with_a_state_folder(world: BrokerWorld) -> None:
    world.add_key("site")

    async def body(_broker: Broker, _relay: StandInRelay) -> None:
        with pytest.raises(BrokerError, match="another broker runs"):
            Broker(world.paths)

    _run(world, body)


def test_end_leaves_no_child_no_socket_and_no_status(world: BrokerWorld) -> None:
    world.add_key("site")

    async def body(_broker: Broker, _relay: StandInRelay) -> None:
        await until(lambda: world.paths.status.exists())

    _run(world, body)
    assert not _agents(world)
    assert not world.paths.run_dir.exists()
    with pytest.raises(BrokerError, match="the broker does not run"):
        read_status(world.paths.status, world.paths.pid)


def test_broken_policy_at_the_start_is_refused_with_its_line(world: BrokerWorld) -> None:
    world.add_key("site")
    world.policy["handles"]["site"]["colour"] = "red"
    world.write_policy()

    async def run() -> None:
        with pytest.raises(PolicyFileError, match=r"policy.json:\d+: error: handles.site.colour: unknown field"):
            Broker(world.paths)

    asyncio.run(run())


def test_missing_identity_says_what_to_do(world: BrokerWorld) -> None:
    world.paths.certificate.unlink()

    async def run() -> None:
        with pytest.raises(LinkError, match="make the key and the certificate first"):
            Broker(world.paths)

    asyncio.run(run())


def _environment(world: BrokerWorld) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "GWMS_SSH_BROKER_DIR": str(world.paths.config_dir),
        "GWMS_SSH_BROKER_STATE": str(world.paths.state_dir),
        "GWMS_SSH_BROKER_LOG": str(world.paths.log_dir),
    }


def test_no_signature_without_record_when_killed_at_any_moment(world: BrokerWorld) -> None:
    """A real broker process is killed in the middle of its work, again and again."""
    world.add_key("site", rate={"burst": 1000, "per_hour": 3600})
    received: list[str] = []

    async def run() -> None:
        async with world.listening() as relay:
            for kill in range(8):
                relay.offers.clear()
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", PROGRAM, "run", env=_environment(world), stderr=asyncio.subprocess.DEVNULL
                )
                await until(lambda: bool(relay.offers))
                item = relay.items["site", "submit"]
                asking = [asyncio.ensure_future(_signed(relay, item, received)) for _ in range(60)]
                target = len(received) + 1 + 7 * kill % 50
                await until(lambda target=target: len(received) >= target)  # type: ignore[misc]
                process.kill()
                await process.wait()
                await asyncio.gather(*asking)

    async def _signed(relay: StandInRelay, item: Any, received: list[str]) -> None:
        request = login_request(item)
        with contextlib.suppress(LinkError):
            await relay.sign(request)
            received.append(hashlib.sha256(parse_userauth(request.data).session_id).hexdigest())

    asyncio.run(run())
    recorded = {record["sid_sha256"] for record in world.audit() if record["event"] == "sign"}
    assert len(received) >= 8
    assert set(received) <= recorded
    assert not verify_audit(world.paths.log_dir, broker_pin=world.identity.pin).findings


def test_process_ends_cleanly_at_sigterm_and_leaves_no_agent(world: BrokerWorld) -> None:
    world.add_key("site")

    async def run() -> None:
        async with world.listening() as relay:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, "run", env=_environment(world), stderr=asyncio.subprocess.PIPE
            )
            await until(lambda: bool(relay.offers))
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
            process.terminate()
            _, stderr = await asyncio.wait_for(process.communicate(), 10)
            assert process.returncode == 0, stderr.decode()
            assert "Traceback" not in stderr.decode()

    asyncio.run(run())
    assert json.dumps([record["event"] for record in world.audit()]) == '["start", "stop"]'
