# SPDX-License-Identifier: Apache-2.0
"""Handles: their keys are real OpenSSH keys without power, and a text is a handle or it is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire import handle
from glideinwms_bosco.sshwire.handle import (
    MAINTAIN,
    SUBMIT,
    HandleReference,
    handle_id,
    make_handle_key,
    read_handle_text,
    spki_pin,
)
from glideinwms_bosco.sshwire.keys import parse_authorized
from glideinwms_bosco.sshwire.primitives import uint32
from tests.unit.ssh_builder import Ed25519Signer, armour, private_container
from tests.unit.ssh_material import RealAgent, keygen, ssh_keys

__all__ = ["ssh_keys"]

SPKI = b"\x30\x59 a broker's public key"
REFERENCE = HandleReference("abcdefghijklmnopqrstuvwx27", "sha256:" + "0123456789abcdef" * 4)
COMMENT = REFERENCE.comment.encode()


@pytest.fixture(scope="module")
def handle_key() -> tuple[str, str]:
    return make_handle_key(REFERENCE)


def written(directory: Path, private_text: str) -> Path:
    path = directory / "handle"
    path.touch(mode=0o600)
    path.write_text(private_text)
    return path


def test_handle_is_the_documented_digest() -> None:
    # Python's own base32 of the digest, spelled out once as a constant.
    assert handle_id(b"spki", b"blob", SUBMIT) == "3yzg6op32awjxxpzf5bglaerp7"
    assert handle_id(b"spki", b"blob", MAINTAIN) == "kwmybtx7prwelw5yyqu3gibprf"


def test_handle_depends_on_broker_key_and_purpose() -> None:
    blob, other = Ed25519Signer(1).blob, Ed25519Signer(2).blob
    made = {
        handle_id(SPKI, blob, SUBMIT),
        handle_id(SPKI, blob, MAINTAIN),
        handle_id(SPKI, other, SUBMIT),
        handle_id(SPKI + b"x", blob, SUBMIT),
    }
    assert len(made) == 4
    assert {HandleReference(one, REFERENCE.broker_pin).handle for one in made} == made


def test_refuses_another_purpose() -> None:
    with pytest.raises(WireError, match="submit or maintain"):
        handle_id(SPKI, b"blob", "admin")


def test_pin_is_hex() -> None:
    assert spki_pin(SPKI) == "sha256:" + hashlib.sha256(SPKI).hexdigest()


@pytest.mark.parametrize(
    ("name", "pin"),
    [
        ("", REFERENCE.broker_pin),
        ("a" * 25, REFERENCE.broker_pin),
        ("a" * 27, REFERENCE.broker_pin),
        ("A" * 26, REFERENCE.broker_pin),
        ("a" * 25 + "1", REFERENCE.broker_pin),
        ("a" * 26 + "\n", REFERENCE.broker_pin),
        ("../" + "a" * 23, REFERENCE.broker_pin),
        (REFERENCE.handle, ""),
        (REFERENCE.handle, "sha256:" + "0" * 63),
        (REFERENCE.handle, "sha256:" + "0" * 65),
        (REFERENCE.handle, "sha256:" + "A" * 64),
        (REFERENCE.handle, "sha256:" + "\u0660" * 64),
        (REFERENCE.handle, "sha1:" + "0" * 64),
        (REFERENCE.handle, "sha256:" + "0" * 64 + "\n"),
    ],
)
def test_refuses_impossible_reference(name: str, pin: str) -> None:
    with pytest.raises(WireError, match="handle"):
        HandleReference(name, pin)


def test_reads_back_what_it_made(handle_key: tuple[str, str]) -> None:
    private_text, _ = handle_key
    assert read_handle_text(private_text.encode()) == REFERENCE


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"\n\n" + raw + b"\n \n",
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.rstrip(b"\n"),
        lambda raw: b"\n".join(line + b"  " for line in raw.splitlines()),
    ],
)
def test_reads_a_handle_that_was_carried_about(damage: object, handle_key: tuple[str, str]) -> None:
    assert callable(damage)
    assert read_handle_text(damage(handle_key[0].encode())) == REFERENCE


def test_ssh_keygen_reads_the_key(handle_key: tuple[str, str], tmp_path: Path) -> None:
    private_text, public_line = handle_key
    path = written(tmp_path, private_text)
    assert keygen("-y", "-f", str(path)) == public_line
    bits, print_, comment, kind = keygen("-l", "-f", str(path)).split()
    assert (bits, comment, kind) == ("2048", REFERENCE.comment, "(RSA)")
    assert print_ == parse_authorized(public_line).fingerprint


def test_ssh_keygen_and_agent_keep_the_reference(handle_key: tuple[str, str], tmp_path: Path) -> None:
    """ssh-keygen -p writes the file anew; ssh-add checks the private numbers, and a wrong one would be refused."""
    path = written(tmp_path, handle_key[0])
    keygen("-q", "-p", "-P", "", "-N", "", "-f", str(path))
    assert path.read_text() != handle_key[0]
    assert read_handle_text(path.read_bytes()) == REFERENCE
    real = RealAgent(tmp_path / "s")
    try:
        real.add(path)
        assert REFERENCE.comment.encode() in real.request(b"\x0b")
    finally:
        real.stop()


def test_cryptography_reads_the_key(handle_key: tuple[str, str]) -> None:
    private = load_ssh_private_key(handle_key[0].encode(), None)
    public = load_ssh_public_key(handle_key[1].encode())
    assert isinstance(private, rsa.RSAPrivateKey)
    assert isinstance(public, rsa.RSAPublicKey)
    assert private.public_key().public_numbers() == public.public_numbers()
    assert private.key_size >= 2048


def test_every_key_is_a_fresh_one(handle_key: tuple[str, str]) -> None:
    assert make_handle_key(REFERENCE)[1] != handle_key[1]


def test_real_keys_are_no_handles(ssh_keys: Mapping[str, Path], tmp_path: Path) -> None:
    for key_file in ssh_keys.values():
        assert read_handle_text(key_file.read_bytes()) is None
        assert read_handle_text(key_file.with_name(key_file.name + ".pub").read_bytes()) is None
    keygen("-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-C", REFERENCE.comment, "-f", str(tmp_path / "pem"))
    assert read_handle_text((tmp_path / "pem").read_bytes()) is None


def test_encrypted_key_is_no_handle(handle_key: tuple[str, str], tmp_path: Path) -> None:
    path = written(tmp_path, handle_key[0])
    keygen("-q", "-p", "-P", "", "-N", "secret", "-a", "1", "-f", str(path))
    assert read_handle_text(path.read_bytes()) is None


def test_made_up_container_reads() -> None:
    assert read_handle_text(armour(private_container(COMMENT))) == REFERENCE


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": b"openssh-key-v2\0"},
        {"cipher": b"aes256-ctr"},
        {"kdf": b"bcrypt"},
        {"kdf_options": b"x"},
        {"count": uint32(2)},
        {"count": uint32(0)},
        {"check": b"abcdabce"},
        {"type": b"ssh-ed25519"},
        {"type": b"ssh-dss"},
        {"outer_type": b"ssh-ed25519"},
        {"padding": b""},
        {"padding": bytes(range(1, 256))},
        {"padding": bytes(8 * 300)},
        {"tail": b"\0"},
    ],
)
def test_other_containers_are_no_handles(changes: dict[str, bytes]) -> None:
    container = private_container(COMMENT, **changes)
    assert container != private_container(COMMENT)
    assert read_handle_text(armour(container)) is None


@pytest.mark.parametrize("comment", [b"", b"pilot@frontend", b"gwms-ssh-handl", b" " + COMMENT, b"\xff\xfe"])
def test_key_with_another_comment_is_no_handle(comment: bytes) -> None:
    assert read_handle_text(armour(private_container(comment))) is None


@pytest.mark.parametrize(
    "comment",
    [
        b"gwms-ssh-handle:",
        COMMENT.replace(b":1:", b":2:"),
        COMMENT[:-1],
        COMMENT + b"0",
        COMMENT + b"\n",
        COMMENT.upper().replace(b"GWMS-SSH-HANDLE", b"gwms-ssh-handle"),
        COMMENT.replace(b":sha256:", b":"),
    ],
)
def test_refuses_a_handle_of_another_form(comment: bytes) -> None:
    with pytest.raises(WireError, match="another form"):
        read_handle_text(armour(private_container(comment)))


GOOD = armour(private_container(COMMENT))


@pytest.mark.parametrize(
    "private_text",
    [
        b"",
        b"\n",
        b"\0" * 100,
        b"x" * (handle.MAX_TEXT_BYTES + 1),
        GOOD + b"\n" * handle.MAX_TEXT_BYTES,
        GOOD.replace(b"OPENSSH", b"RSA"),
        GOOD.replace(b"BEGIN", b"BEGIN "),
        GOOD + b"something more\n",
        b"something in front\n" + GOOD,
        GOOD + GOOD,
        GOOD[:-10],
        GOOD[:200] + b"*" + GOOD[200:],
        GOOD[:200] + GOOD[201:],
        GOOD.splitlines()[0] + b"\n" + GOOD.splitlines()[-1],
        GOOD.splitlines()[0] + b"\n\n" + GOOD.splitlines()[-1],
        b"/run/gwms-ssh-relay/agent.sock",
    ],
)
def test_other_texts_are_no_handles(private_text: bytes) -> None:
    assert read_handle_text(private_text) is None
