# SPDX-License-Identifier: Apache-2.0
"""Identities, and who is let in: every case but the good ones differs from a good one in one thing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import socket
import ssl
import stat
import subprocess
import threading
from pathlib import Path
from typing import Optional

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link.connection import Limits
from glideinwms_bosco.link.messages import GoAway
from glideinwms_bosco.link.tls import ALPN, Identity, client_context, load_identity, make_identity, server_context
from tests.unit.link_fixture import (
    LOOPBACK,
    TEST_DEADLINE_S,
    Ends,
    RawPeer,
    dial_to,
    hello,
    link_of,
    make_ends,
    raw_client,
    raw_relay,
    relay_of,
    run,
)

QUICK = Limits(connect_s=5.0, hello_s=0.2, close_s=0.5)


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return make_ends(tmp_path)


class TestIdentity:
    def test_key_is_private_and_certificate_is_not(self, ends: Ends) -> None:
        assert stat.S_IMODE(ends.relay.key_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(ends.relay.cert_file.stat().st_mode) == 0o644

    def test_pin_is_that_of_openssl(self, ends: Ends) -> None:
        public = ["openssl", "x509", "-in", str(ends.relay.cert_file), "-noout", "-pubkey"]
        pem = subprocess.run(public, check=True, capture_output=True).stdout
        der = subprocess.run(
            ["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, check=True, capture_output=True
        )

        assert ends.relay.pin == f"sha256:{hashlib.sha256(der.stdout).hexdigest()}"

    def test_is_read_back(self, ends: Ends) -> None:
        assert load_identity(ends.relay.cert_file, ends.relay.key_file) == ends.relay

    @pytest.mark.parametrize("name", ["", "../up", "a b", "-x", "x" * 65, "näme", "a\n"])
    def test_refuses_names_that_are_no_file_names(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(LinkError, match="cannot name a key"):
            make_identity(tmp_path, name)

    @pytest.mark.parametrize("present", ["relay.key", "relay.crt"])
    def test_never_replaces_a_file(self, tmp_path: Path, present: str) -> None:
        (tmp_path / present).write_text("precious")

        with pytest.raises(LinkError, match="exists"):
            make_identity(tmp_path, "relay")

        assert [path.name for path in tmp_path.iterdir()] == [present]
        assert (tmp_path / present).read_text() == "precious"

    def test_names_the_folder_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(LinkError, match="gone: No such file"):
            make_identity(tmp_path / "gone", "relay")

    def test_names_the_file_that_is_no_certificate(self, ends: Ends) -> None:
        with pytest.raises(LinkError, match=r"relay\.key: no certificate"):
            load_identity(ends.relay.key_file, ends.relay.key_file)
        with pytest.raises(LinkError, match="No such file"):
            load_identity(Path("/nowhere/x.crt"), ends.relay.key_file)

    def test_refuses_the_key_of_another(self, ends: Ends) -> None:
        mixed = Identity(ends.relay.cert_file, ends.broker.key_file, ends.relay.spki_der)

        for make in (server_context, client_context):
            with pytest.raises(LinkError, match="key values mismatch"):
                make(mixed)

    def test_does_not_ask_for_a_pass_phrase(self, ends: Ends) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        secret = serialization.BestAvailableEncryption(b"secret")
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        ends.relay.key_file.write_bytes(key.private_bytes(*form, secret))

        with pytest.raises(LinkError, match="without pass phrase"):
            server_context(ends.relay)


class TestPins:
    def test_good_pair_sees_each_other(self, ends: Ends) -> None:
        async def test() -> None:
            async with link_of(ends) as (broker, relay):
                assert (broker.peer_pin, relay.peer_pin) == (ends.relay.pin, ends.broker.pin)
                assert relay.peer_spki == ends.broker.spki_der
                assert (broker.peer_name, relay.peer_name) == ("relay.example.org", "frontend.example.org")
                assert broker.clock_agrees and relay.clock_agrees

        run(test())

    def test_one_of_two_pins_is_enough(self, ends: Ends) -> None:
        async def test() -> None:
            async with relay_of(ends) as relay:
                broker = await dial_to(relay.port, ends, pins=[ends.stranger.pin, ends.relay.pin])
                assert broker.peer_pin == ends.relay.pin
                broker.close()
                await broker.wait_closed()

        run(test())

    def test_refuses_an_impostor_relay(self, ends: Ends) -> None:
        """Attack: somebody answers at the relay's address, with a certificate like the relay's but for its key."""

        async def test() -> None:
            async with relay_of(ends, identity=ends.stranger) as impostor:
                with pytest.raises(LinkError) as caught:
                    await dial_to(impostor.port, ends)
                assert f"shows the key {ends.stranger.pin}, registered is {ends.relay.pin}" in caught.value.message
                await impostor.settled()
                assert impostor.came.empty()

        run(test())

    def test_an_impostor_relay_hears_no_hello(self, ends: Ends) -> None:
        async def talk(peer: RawPeer) -> None:
            peer.send(hello())
            heard.append(await peer.next())

        heard: list[object] = []

        async def test() -> None:
            async with raw_relay(ends, talk, server_context(ends.stranger)) as port:
                with pytest.raises(LinkError):
                    await dial_to(port, ends)

        run(test())
        assert [type(message) for message in heard] == [GoAway]

    def test_refuses_an_unregistered_broker_of_the_same_name(
        self, ends: Ends, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def test() -> None:
            async with relay_of(ends) as relay:
                with pytest.raises(LinkError) as caught:
                    await dial_to(relay.port, ends, identity=ends.stranger)
                assert f"shows the key {ends.stranger.pin}, and no broker is registered" in caught.value.message
                assert f"our key is {ends.stranger.pin}" in caught.value.hint
                await relay.settled()
                assert relay.came.empty()

        run(test())
        assert ends.stranger.pin in caplog.text

    def test_nothing_an_unregistered_broker_sends_is_read(self, ends: Ends) -> None:
        async def test() -> None:
            async with relay_of(ends, limits=QUICK) as relay:
                peer = await raw_client(relay.port, _unchecked(client_context(ends.stranger)))
                peer.send(hello())
                assert isinstance(await peer.next(), GoAway)
                peer.cut()
                await relay.settled()
                assert relay.came.empty()

        run(test())

    def test_a_pin_that_is_taken_back_counts_at_the_next_connection(self, ends: Ends) -> None:
        registered = {ends.broker.spki_der}

        async def test() -> None:
            async with relay_of(ends, lookup=registered.__contains__) as relay:
                broker = await dial_to(relay.port, ends)
                registered.clear()
                with pytest.raises(LinkError, match="no broker is registered"):
                    await dial_to(relay.port, ends)
                assert not broker.closed
                broker.close()
                await broker.wait_closed()

        run(test())

    def test_does_not_dial_without_a_pin(self, ends: Ends) -> None:
        with pytest.raises(LinkError, match=r"no pin is registered for relay 127\.0\.0\.1:1"):
            run(dial_to(1, ends, pins=[]))


def _unchecked(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False
    return context


def _bare_client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    return context


def _resume(port: int, identity: Identity) -> list[bool]:
    """Connect twice; whether the first session has a ticket, can be carried on, and was."""
    context = _bare_client()
    context.load_cert_chain(identity.cert_file, identity.key_file)
    session: Optional[ssl.SSLSession] = None
    found: list[bool] = []
    for _ in range(2):
        plain = socket.create_connection((LOOPBACK, port), TEST_DEADLINE_S)
        with plain, context.wrap_socket(plain, session=session) as secured:
            # Tickets come behind the handshake, before the first byte of the other end.
            assert secured.recv(1)
            session = secured.session
            found += [bool(secured.session_reused), *([session.has_ticket] if not found and session else [])]
    return found


def _self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    return _files(folder, "self", key, _issue(name, key, name, key))


def _issue(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    now = datetime.datetime(2024, 1, 1)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer)]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    builder = builder.not_valid_after(now + datetime.timedelta(days=36500))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def _files(
    folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> tuple[Path, Path]:
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.priv"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(*form))
    return cert_file, key_file


class TestHandshake:
    async def _is_turned_away(self, ends: Ends, context: Optional[ssl.SSLContext], first: bytes) -> None:
        async with relay_of(ends, limits=QUICK) as relay:
            try:
                peer = await raw_client(relay.port, context)
            except OSError:
                pass
            else:
                peer.send(first)
                assert b"HELLO" not in await peer.ended()
                peer.cut()
            await relay.settled()
            assert relay.came.empty()

    def test_refuses_a_client_without_certificate(self, ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
        """Attack: the client believes its TLS 1.3 handshake is done, and talks on."""
        run(self._is_turned_away(ends, _bare_client(), hello()))

        assert "shows no certificate" in caplog.text

    def test_refuses_a_self_signed_certificate_of_the_same_name(
        self, ends: Ends, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        context = _bare_client()
        context.load_cert_chain(*_self_signed(tmp_path, "broker"))

        run(self._is_turned_away(ends, context, hello()))

        assert "certificate that was not accepted: self" in caplog.text

    def test_refuses_tls_1_2(self, ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
        context = _unchecked(client_context(ends.broker))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        run(self._is_turned_away(ends, context, hello()))

        assert "offers no TLS 1.3" in caplog.text

    @pytest.mark.parametrize("first", [b"GET / HTTP/1.0\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", hello()])
    def test_refuses_plain_text(self, ends: Ends, caplog: pytest.LogCaptureFixture, first: bytes) -> None:
        run(self._is_turned_away(ends, None, first))

        assert "does not speak TLS" in caplog.text

    def test_refuses_a_client_that_names_no_application(self, ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(ends.broker.cert_file, ends.broker.key_file)

        run(self._is_turned_away(ends, context, hello()))

        assert f"does not offer {ALPN}" in caplog.text

    def test_the_leaf_counts_whatever_chain_comes_with_it(
        self, ends: Ends, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Attack: a stranger sends the certificate of a registered broker behind its own."""
        chain = tmp_path / "chain.pem"
        chain.write_bytes(ends.stranger.cert_file.read_bytes() + ends.broker.cert_file.read_bytes())
        context = _bare_client()
        context.load_cert_chain(chain, ends.stranger.key_file)

        run(self._is_turned_away(ends, context, hello()))

        assert f"shows the key {ends.stranger.pin}, and no broker is registered" in caplog.text

    def test_refuses_a_chain_of_a_hundred_certificates_and_more(
        self, ends: Ends, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        chain = tmp_path / "chain.pem"
        chain.write_bytes(ends.broker.cert_file.read_bytes() + 300 * ends.stranger.cert_file.read_bytes())
        context = _bare_client()
        context.load_cert_chain(chain, ends.broker.key_file)

        run(self._is_turned_away(ends, context, hello()))

        assert "the TLS handshake failed" in caplog.text

    def test_session_is_never_resumed(self, ends: Ends) -> None:
        """Attack: a resumed session proves no key; whoever stole its secret would pass for the broker for hours."""

        async def test() -> list[bool]:
            async with relay_of(ends) as relay:
                return await asyncio.get_running_loop().run_in_executor(None, _resume, relay.port, ends.broker)

        assert run(test()) == [False, False, False]

    def test_refuses_another_application(self, ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
        context = _unchecked(client_context(ends.broker))
        context.set_alpn_protocols(["http/1.1"])

        run(self._is_turned_away(ends, context, hello()))

        assert f"does not offer {ALPN}" in caplog.text

    def test_a_client_that_never_finishes_is_dropped(self, ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            async with relay_of(ends, limits=Limits(connect_s=0.2)) as relay:
                peer = await raw_client(relay.port, None)
                assert await peer.ended() == b""
                peer.cut()
                await relay.settled()

        run(test())
        assert "the TLS handshake failed" in caplog.text

    def test_dial_names_a_relay_of_tls_1_2(self, ends: Ends) -> None:
        context = server_context(ends.relay)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        assert "offers no TLS 1.3" in _dial_failure(ends, context)

    def test_dial_names_a_port_that_does_not_speak_tls(self, ends: Ends) -> None:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            writer.close()

        async def test() -> None:
            server = await asyncio.start_server(greet, LOOPBACK, 0)
            with pytest.raises(LinkError, match="does not speak TLS"):
                await dial_to(server.sockets[0].getsockname()[1], ends)
            server.close()

        run(test())

    def test_dial_names_a_relay_that_does_not_take_our_certificate(self, ends: Ends, tmp_path: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ends.relay.cert_file, ends.relay.key_file)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(_self_signed(tmp_path, "some CA")[0])

        assert f"does not accept our certificate, key {ends.broker.pin}" in _dial_failure(ends, context)

    def test_dial_names_a_certificate_that_is_none_of_ours(self, ends: Ends, tmp_path: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*_self_signed(tmp_path, "relay"))

        assert "certificate that was not accepted: self" in _dial_failure(ends, context)

    def test_dial_names_a_closed_port(self, ends: Ends) -> None:
        with pytest.raises(LinkError, match=r"127\.0\.0\.1:1: connecting failed: .*[Cc]onnect"):
            run(dial_to(1, ends))

    def test_dial_gives_up_on_a_silent_port(self, ends: Ends) -> None:
        async def test() -> None:
            released = asyncio.Event()

            async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await released.wait()
                writer.close()

            server = await asyncio.start_server(silent, LOOPBACK, 0)
            with pytest.raises(LinkError, match=r"no answer in time|taking longer"):
                await dial_to(server.sockets[0].getsockname()[1], ends, limits=Limits(connect_s=0.2))
            released.set()
            server.close()
            await asyncio.sleep(0)

        run(test())


def _dial_failure(ends: Ends, context: ssl.SSLContext) -> str:
    """What a dial to a server with this context ends with. The server is a thread: asyncio's sends no TLS alerts."""
    context.set_alpn_protocols([ALPN])
    listener = socket.create_server((LOOPBACK, 0))
    listener.settimeout(TEST_DEADLINE_S)

    def serve() -> None:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as secured:
            with contextlib.suppress(OSError):
                secured.do_handshake()
            with contextlib.suppress(OSError):
                secured.shutdown(socket.SHUT_WR)
                while secured.recv(65536):  # to its end, or the kernel's reset would overtake the alert
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(LinkError) as caught:
            run(dial_to(listener.getsockname()[1], ends, limits=QUICK))
        return str(caught.value)
    finally:
        thread.join()
        listener.close()
