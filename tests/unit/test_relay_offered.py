# SPDX-License-Identifier: Apache-2.0
"""Nothing a broker says reaches ssh's files but what was parsed; ssh itself reads what we write."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.messages import OfferItem
from glideinwms_bosco.relay.client_conf import ClientSettings, client_files, factory_conf, sends_session_bind
from glideinwms_bosco.relay.handover import FACTORY_CONF
from glideinwms_bosco.relay.offered import MAX_HOSTS, Host, NotOffered, OfferedHandle, check_item
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT, handle_id, named_anchor
from glideinwms_bosco.sshwire.keys import parse_public_key
from tests.unit.relay_fixture import SigningKey

SPKI = b"a TLS key"
KEY = SigningKey()
HOST_KEY = parse_public_key(SigningKey().blob).authorized


def item(**other: Any) -> OfferItem:
    made = OfferItem(
        handle=handle_id(SPKI, KEY.blob, SUBMIT), pubkey_blob=KEY.blob, anchor=KEY.blob, cert_blob=b"", comment="",
        purpose=SUBMIT,
        user="pilot", hosts="login.example.org:22,10.0.0.1:2222",
        known_hosts_text=f"login.example.org,[10.0.0.1]:2222 {HOST_KEY}\n",
    )  # fmt: skip
    return replace(made, **other)


def test_takes_a_good_offer() -> None:
    offered = check_item(item(), SPKI)
    assert offered.hosts == (Host("login.example.org", 22), Host("10.0.0.1", 2222))
    assert offered.known_hosts == (f"login.example.org,[10.0.0.1]:2222 {HOST_KEY}",)


def test_handle_of_a_name_stays_while_its_keys_change() -> None:
    anchor = named_anchor("nersc-cms")
    handle = handle_id(SPKI, anchor, SUBMIT)
    for key in (KEY.blob, SigningKey().blob):
        assert check_item(item(handle=handle, anchor=anchor, pubkey_blob=key), SPKI).key.blob == key


@pytest.mark.parametrize(
    "anchor",
    [
        *(b"", b"exec:", b"exec:a b", b"exec:a\0", b"exec:a\n", b"exec:-a", b"exec:" + b"a" * 65, b"name:a"),
        SigningKey().blob,
    ],
)
def test_refuses_an_anchor_that_is_neither_its_key_nor_a_name(anchor: bytes) -> None:
    with pytest.raises(NotOffered) as caught:
        check_item(item(handle=handle_id(SPKI, anchor, SUBMIT), anchor=anchor), SPKI)
    assert caught.value.denied.code == DenyCode.NOT_YOURS


def test_refuses_the_name_of_another_brokers_entry() -> None:
    """Attack: a broker offers the handle that another broker's entry of the same name has."""
    anchor = named_anchor("nersc-cms")
    with pytest.raises(NotOffered) as caught:
        check_item(item(handle=handle_id(b"another TLS key", anchor, SUBMIT), anchor=anchor), SPKI)
    assert caught.value.denied.code == DenyCode.NOT_YOURS


def test_takes_a_host_ca() -> None:
    offered = check_item(item(known_hosts_text=f"@cert-authority login.example.org {HOST_KEY}"), SPKI)
    assert offered.known_hosts == (f"@cert-authority login.example.org {HOST_KEY}",)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"purpose": MAINTAIN}, DenyCode.NOT_YOURS),
        ({"purpose": "other"}, DenyCode.MALFORMED),
        ({"handle": "a" * 26}, DenyCode.NOT_YOURS),
        ({"handle": "../../etc/passwd"}, DenyCode.NOT_YOURS),
        ({"pubkey_blob": SigningKey().blob}, DenyCode.NOT_YOURS),
        *(({"user": user}, DenyCode.MALFORMED) for user in
          ("", "-l", "a b", "a\nMatch all", "a@b", "a%u", 'a"', "a$b", "u" * 65, "\u00e9")),
        *(({"hosts": hosts}, DenyCode.MALFORMED) for hosts in
          ("", "h", "h:", "h:0", "h:65536", "h:022", "h:+22", "H:22", "a b:22", "a\n:22", "*:22", "!h:22", "-o:22",
           "h%h:22",
           "h:22,", "h:22,h:22", "[h]:22", "::1:22", "[::1%eth0]:22", "[::01]:22", "a" * 254 + ":22",
           ",".join(f"h{i}:22" for i in range(MAX_HOSTS + 1)))),
        *(({"known_hosts_text": text}, DenyCode.MALFORMED) for text in
          ("", "\n", f"* {HOST_KEY}", f"other.example.org {HOST_KEY}", f"login.example.org:22 {HOST_KEY}",
           f"login.example.org,* {HOST_KEY}", f"login.example.org {HOST_KEY} comment", f"login.example.org  {HOST_KEY}",
           f"|1|AAAA|BBBB {HOST_KEY}", f"@other login.example.org {HOST_KEY}", "login.example.org ssh-ed25519 AAAA",
           f"login.example.org {HOST_KEY}\r\n", f"login.example.org {HOST_KEY}\n\n", "# comment",
           f"login.example.org {HOST_KEY}\n" * 129, "x" * 32769)),
    ],
)  # fmt: skip
def test_refuses(change: dict[str, Any], code: DenyCode) -> None:
    with pytest.raises(NotOffered) as caught:
        check_item(item(**change), SPKI)
    assert caught.value.denied.code == code
    assert caught.value.denied.reason.isprintable()


def test_refuses_a_key_that_ssh_does_not_use() -> None:
    blob = b"\0\0\0\x07ssh-dss\0\0\0\0"
    with pytest.raises(NotOffered) as caught:
        check_item(item(pubkey_blob=blob, anchor=blob, handle=handle_id(SPKI, blob, SUBMIT)), SPKI)
    assert caught.value.denied.code == DenyCode.KEY


@pytest.mark.parametrize(
    ("version", "expected"),
    [("OpenSSH_8.9p1 Ubuntu-3, OpenSSL", True), ("OpenSSH_10.0p1", True), ("OpenSSH_9.2p1 Debian", True),
     ("OpenSSH_8.8p1", False), ("OpenSSH_8.7p1, OpenSSL 3", False), ("OpenSSH_7.4p1", False), ("Sun_SSH", False),
     ("", False)],
)  # fmt: skip
def test_tells_which_clients_bind(version: str, expected: bool) -> None:
    assert sends_session_bind(version) is expected


def effective(
    folder: Path, offered: OfferedHandle, siblings: tuple[OfferedHandle, ...], *arguments: str
) -> dict[str, str]:
    included = folder / "site_config"
    # What an operator's configuration could say to weaken ours, and the jump host, which only it knows.
    included.write_text(
        "Match originalhost login.example.org user pilot\n  ProxyJump hop@gate.example.org:2222\n  Port 99\n"
        "Host *\n  StrictHostKeyChecking no\n  IdentitiesOnly no\n  ForwardAgent yes\n  UserKnownHostsFile /dev/null\n"
    )
    settings = ClientSettings(folder, (included, folder / "missing"), None)
    (folder / FACTORY_CONF).write_bytes(factory_conf(settings))
    for name, content in client_files(offered, siblings, settings).items():
        (folder / name).write_bytes(content)
    argv = ["ssh", "-T", "-G", "-F", str(folder / f"{offered.handle}.conf"), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in done.stdout.splitlines()}


def test_ssh_takes_our_protection_and_the_sites_jump_host(tmp_path: Path) -> None:
    offered = check_item(item(), SPKI)
    options = effective(tmp_path, offered, (), "-o", "BatchMode yes", "pilot@login.example.org")
    base = f"{tmp_path}/{offered.handle}"
    expected = {
        "port": "22", "user": "pilot", "identityagent": f"{base}.sock", "identityfile": f"{base}.pub",
        "identitiesonly": "yes", "userknownhostsfile": f"{base}.known_hosts", "globalknownhostsfile": "/dev/null",
        "stricthostkeychecking": "true", "updatehostkeys": "false", "forwardagent": "no", "batchmode": "yes",
        "preferredauthentications": "publickey", "exitonforwardfailure": "yes", "serveraliveinterval": "15",
        "proxyjump": "hop@gate.example.org:2222", "checkhostip": "no", "permitlocalcommand": "no",
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected


def test_other_user_or_host_gets_nothing_of_the_handle(tmp_path: Path) -> None:
    offered = check_item(item(), SPKI)
    for target in ("other@login.example.org", "pilot@elsewhere.example.org"):
        assert "identityagent" not in effective(tmp_path, offered, (), target)


def test_jump_host_is_served_by_its_own_handle(tmp_path: Path) -> None:
    other = SigningKey()
    gate = check_item(
        item(
            handle=handle_id(SPKI, other.blob, SUBMIT), pubkey_blob=other.blob, anchor=other.blob, user="hop",
            hosts="gate.example.org:2222", known_hosts_text=f"[gate.example.org]:2222 {HOST_KEY}",
        ),
        SPKI,
    )  # fmt: skip
    options = effective(tmp_path, check_item(item(), SPKI), (gate,), "-l", "hop", "-p", "2222", "gate.example.org")
    assert options["identityagent"] == f"{tmp_path}/{gate.handle}.sock"
    assert options["stricthostkeychecking"] == "true"


def test_certificate_gets_a_file_and_a_line(tmp_path: Path) -> None:
    offered = replace(check_item(item(), SPKI), cert_blob=b"cert")
    files = client_files(offered, (), ClientSettings(tmp_path, (), None))
    assert files[f"{offered.handle}-cert.pub"] == b"ssh-ed25519-cert-v01@openssh.com Y2VydA==\n"
    assert f"CertificateFile {tmp_path}/{offered.handle}-cert.pub".encode() in files[f"{offered.handle}.conf"]
