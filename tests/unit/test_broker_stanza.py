# SPDX-License-Identifier: Apache-2.0
"""The credential element of frontend.xml and its files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.broker.policy import Handle
from glideinwms_bosco.broker.stanza import PLACEHOLDER, make_stanza, write_files
from glideinwms_bosco.errors import BrokerError, UsageError
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT, HandleReference, read_handle_text, spki_pin
from tests.unit.broker_text import ENTRY, SPKI, USER, keyed, policy_data, signer


def handle(purpose: str = SUBMIT) -> Handle:
    return keyed(policy_data()).handle_of(ENTRY, purpose)


REFERENCE = HandleReference(handle().handle, spki_pin(SPKI))


def attributes(xml: str) -> dict[str, str]:
    return {str(name): str(value) for name, value in etree.fromstring(xml).attrib.items()}


def test_3_10_names_key_proxy_and_user(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.10", tmp_path, "bosco.example")
    name = f"{tmp_path}/{ENTRY}-{handle().handle}"
    assert attributes(stanza.xml) == {
        "absfname": f"{name}.pub", "keyabsfname": name, "pilotabsfname": f"{name}.proxy", "remote_username": USER,
        "security_class": "frontend", "trust_domain": "bosco.example", "type": "key_pair",
    }  # fmt: skip


def test_3_10_takes_a_real_proxy_instead_of_the_placeholder(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.10", tmp_path, "d", pilot_proxy=Path("/etc/proxy"))
    assert attributes(stanza.xml)["pilotabsfname"] == "/etc/proxy"
    assert stanza.proxy_file is None


def test_3_11_has_a_purpose_and_no_proxy(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.11", tmp_path, "d", security_class="s")
    name = f"{tmp_path}/{ENTRY}-{handle().handle}"
    assert attributes(stanza.xml) == {
        "absfname": f"{name}.pub", "keyabsfname": name, "purpose": "request", "security_class": "s",
        "trust_domain": "d", "type": "key_pair",
    }  # fmt: skip
    assert any("CONTINUE_IF_NO_PROXY" in note for note in stanza.notes)


def test_writes_a_handle_that_only_its_owner_reads(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.10", tmp_path, "d")
    assert write_files(stanza, REFERENCE)
    assert read_handle_text(stanza.private_file.read_bytes()) == REFERENCE
    assert stat.S_IMODE(stanza.private_file.stat().st_mode) == 0o600
    assert stanza.public_file.read_text(encoding="ascii").startswith("ssh-rsa ")
    assert stanza.proxy_file is not None and stanza.proxy_file.read_text(encoding="ascii") == PLACEHOLDER
    # glideinWMS drops a credential with an empty file and says nothing.
    assert PLACEHOLDER.strip()


def test_the_real_key_is_in_no_file(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.11", tmp_path, "d")
    write_files(stanza, REFERENCE)
    real = signer("user")
    secret = real.write(tmp_path / "real").read_bytes().splitlines()[2]
    for path in (stanza.private_file, stanza.public_file):
        assert secret not in path.read_bytes()
        assert real.public.authorized.encode("ascii") not in path.read_bytes()


def test_keeps_a_handle_that_is_there(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.10", tmp_path, "d")
    write_files(stanza, REFERENCE)
    before = stanza.private_file.read_bytes()
    assert not write_files(stanza, REFERENCE)
    assert stanza.private_file.read_bytes() == before


def test_replaces_the_handle_of_another_broker_and_a_lonely_half(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.11", tmp_path, "d")
    write_files(stanza, HandleReference(REFERENCE.handle, "sha256:" + "0" * 64))
    assert write_files(stanza, REFERENCE)
    assert read_handle_text(stanza.private_file.read_bytes()) == REFERENCE
    stanza.public_file.unlink()
    assert write_files(stanza, REFERENCE)
    assert stanza.public_file.exists()


def test_never_overwrites_a_real_key(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.11", tmp_path, "d")
    signer("user").write(stanza.private_file)
    before = stanza.private_file.read_bytes()
    with pytest.raises(BrokerError, match="no handle"):
        write_files(stanza, REFERENCE)
    assert stanza.private_file.read_bytes() == before


def test_says_where_it_cannot_write(tmp_path: Path) -> None:
    stanza = make_stanza(handle(), "3.11", tmp_path / "none", "d")
    with pytest.raises(BrokerError, match="cannot be written"):
        write_files(stanza, REFERENCE)


def test_a_maintenance_handle_is_no_credential(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="only the submit handle"):
        make_stanza(handle(MAINTAIN), "3.10", tmp_path, "d")


@pytest.mark.parametrize(
    ("version", "folder", "domain", "words"),
    [
        ("3.9", "/x", "d", "not known"),
        ("3.10", "x", "d", "relative"),
        ("3.10", "/x", "a b", "trust domain"),
        ("3.10", "/x", "", "trust domain"),
        ("3.10", "/x", 'a"b', "trust domain"),
    ],
)
def test_refuses_what_glideinwms_could_not_carry(version: str, folder: str, domain: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_stanza(handle(), version, Path(folder), domain)


def test_a_folder_with_markup_stays_a_folder() -> None:
    stanza = make_stanza(handle(), "3.11", Path('/a&b"<c>'), "d")
    assert attributes(stanza.xml)["keyabsfname"].startswith('/a&b"<c>/')
