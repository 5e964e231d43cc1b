# SPDX-License-Identifier: Apache-2.0
"""Policy files: what is read from a good one, and what every bad one is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.broker.policy import Hours, KeySource, Rate, load_policy
from glideinwms_bosco.errors import BrokerError, PolicyFileError
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT, handle_id, named_anchor
from tests.unit.broker_text import (
    ENTRY,
    OTHER_PIN,
    PIN,
    SPKI,
    as_policy,
    changed,
    keyed,
    policy_data,
    signer,
    write_policy,
)

CA = signer("user-ca").public.authorized
CERT = {"mode": "cert+sign", "ca": {"backend": "ssh-agent", "file": "/etc/ca"}, "principals": ["gwms-pilot"]}
E = ("handles", ENTRY)

# what is changed: path, value -> field that is named, words of message or hint
REFUSED: dict[str, tuple[tuple[Any, ...], Any, str, str]] = {
    "unknown field": ((*E, "usr"), "x", f"handles.{ENTRY}.usr", "did you mean 'user'"),
    "unknown field at the top": (("handle",), {}, "handle", "did you mean 'handles'"),
    "unknown field of a host": ((*E, "hosts", 0, "key"), [], f"handles.{ENTRY}.hosts[0].key", "'keys'"),
    "another version": (("version",), 2, "version", "one of: 1"),
    "version as text": (("version",), "1", "version", "'1' is not known"),
    "wrong type": ((*E, "enabled"), "no", f"handles.{ENTRY}.enabled", "true or false"),
    "user with an option": ((*E, "user"), "-oProxyCommand=x", f"handles.{ENTRY}.user", "not allowed"),
    "user with a blank": ((*E, "user"), "a b", f"handles.{ENTRY}.user", "not allowed"),
    "unknown factory": ((*E, "factories"), ["sdsc"], f"handles.{ENTRY}.factories[0]", "known: osg, cern"),
    "no hosts": ((*E, "hosts"), [], f"handles.{ENTRY}.hosts", "is empty"),
    "host without keys": ((*E, "hosts", 0, "keys"), [], f"handles.{ENTRY}.hosts[0]", "learn login.example.edu"),
    "host with an option": ((*E, "hosts", 0, "name"), "-x", f"handles.{ENTRY}.hosts[0].name", "not allowed"),
    "host twice": (
        (*E, "hosts"),
        [{"name": "h", "keys": [CA]}, {"name": "H", "port": 22, "keys": [CA]}],
        f"handles.{ENTRY}.hosts[1]",
        "h:22 stands twice",
    ),
    "port too large": ((*E, "hosts", 0, "port"), 65536, f"handles.{ENTRY}.hosts[0].port", "at most 65535"),
    "host key that is none": (
        (*E, "hosts", 0, "keys"),
        ["ssh-ed25519 AAAA"],
        f"handles.{ENTRY}.hosts[0].keys[0]",
        "no usable public key",
    ),
    "DSA host key": ((*E, "hosts", 0, "keys"), ["ssh-dss AAAA"], f"handles.{ENTRY}.hosts[0].keys[0]", "no usable"),
    "two handles, one file": (
        ("handles", "second"),
        policy_data()["handles"][ENTRY],
        "handles.second.key.file",
        f"is the key of {ENTRY} too",
    ),
    "unknown backend": ((*E, "key", "backend"), "vault", f"handles.{ENTRY}.key.backend", "ssh-agent"),
    "field of another backend": ((*E, "key", "socket"), "/s", f"handles.{ENTRY}.key.socket", "of no use"),
    "backend without its field": ((*E, "key"), {"backend": "exec"}, f"handles.{ENTRY}.key.command", "needs it"),
    "agent without a public key": (
        (*E, "key"),
        {"backend": "agent-socket", "socket": "/s"},
        f"handles.{ENTRY}.key.public",
        "needs it",
    ),
    "relative key file": ((*E, "key", "file"), "keys/x", f"handles.{ENTRY}.key.file", "absolute path"),
    "passphrase in the policy": ((*E, "key", "passphrase"), "s3cret", f"handles.{ENTRY}.key.passphrase", "never the"),
    "moment that is none": ((*E, "not_after"), "2027-02-30T00:00:00Z", f"handles.{ENTRY}.not_after", "no such moment"),
    "moment without a zone": ((*E, "not_after"), "2027-02-03T00:00:00", f"handles.{ENTRY}.not_after", "not allowed"),
    "hours that end before they begin": (
        (*E, "hours"),
        [{"days": ["mon"], "from": "22:00", "to": "06:00"}],
        f"handles.{ENTRY}.hours[0].to",
        "two blocks",
    ),
    "hours on no day": ((*E, "hours"), [{"days": [], "from": "08:00", "to": "09:00"}], "hours[0].days", "is empty"),
    "rate zero": ((*E, "rate"), {"burst": 0, "per_hour": 1}, f"handles.{ENTRY}.rate.burst", "at least 1"),
    "rate too high": ((*E, "rate"), {"burst": 1, "per_hour": 3601}, f"handles.{ENTRY}.rate.per_hour", "3600"),
    "rate half said": ((*E, "rate"), {"burst": 1}, f"handles.{ENTRY}.rate.per_hour", "missing"),
    "proof nobody knows": ((*E, "require"), "none", f"handles.{ENTRY}.require", "unproven"),
    "maintain true": ((*E, "maintain"), True, f"handles.{ENTRY}.maintain", "one of: false"),
    "maintain without a rate": ((*E, "maintain"), {}, f"handles.{ENTRY}.maintain.rate", "missing"),
    "gate and maintenance": ((*E, "gate"), "bosco", f"handles.{ENTRY}.maintain", "the gate refuses"),
    "gate outside of home": ((*E, "gate"), "../x", f"handles.{ENTRY}.gate", "not allowed"),
    "gate with a quote": ((*E, "gate"), 'x" y', f"handles.{ENTRY}.gate", "not allowed"),
    "certificates without a CA": ((*E, "cert"), {"mode": "cert+sign"}, f"handles.{ENTRY}.cert.ca", "needs it"),
    "certificate that lives too short": ((*E, "cert"), {**CERT, "ttl": 30}, f"handles.{ENTRY}.cert.ttl", "at least 60"),
    "principal with a comma": (
        (*E, "cert"),
        {**CERT, "principals": ["a,b"]},
        f"handles.{ENTRY}.cert.principals[0]",
        "not allowed",
    ),
    "relay without a port": (("factories", "osg", "relay"), "host", "factories.osg.relay", "host:port"),
    "relay with a port too large": (("factories", "osg", "relay"), "h:70000", "factories.osg.relay", "65535"),
    "pin in capitals": (("factories", "osg", "spki"), [PIN.upper()], "factories.osg.spki[0]", "not allowed"),
    "no pin": (("factories", "osg", "spki"), [], "factories.osg.spki", "is empty"),
    "pin of two factories": (("factories", "cern", "spki"), [OTHER_PIN, PIN], "factories.cern.spki[1]", "pin of osg"),
    "address that is none": (
        ("factories", "osg", "source_addresses"),
        ["192.0.2.300"],
        "source_addresses[0]",
        "no netw",
    ),
    "address with host bits": (("factories", "osg", "source_addresses"), ["192.0.2.1/24"], "addresses[0]", "host bits"),
    "name with a slash": (("handles", "a/b"), policy_data()["handles"][ENTRY], "handles.a/b", "not a usable name"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_file_line_and_field(name: str, tmp_path: Path) -> None:
    path, value, field, words = REFUSED[name]
    file = write_policy(tmp_path, changed(*path, value=value))
    with pytest.raises(PolicyFileError) as caught:
        load_policy(file)
    problem = caught.value.problems[0]
    assert problem.file == str(file)
    assert problem.field.endswith(field)
    assert words in f"{problem.message}; {problem.hint}"
    last = field.rpartition(".")[2].partition("[")[0]
    lines = file.read_text(encoding="utf-8").splitlines()
    if f'"{last}"' in lines[problem.line - 1]:
        return
    # What is missing has the line of its block; a member of a list its own.
    assert problem.message.startswith("missing") or field.endswith("]") or "learn" in problem.hint


def test_names_all_problems_at_once() -> None:
    data = changed(*E, "usr", value="x")
    data["handles"][ENTRY]["enabled"] = 1
    with pytest.raises(PolicyFileError) as caught:
        as_policy(data)
    assert len(caught.value.problems) == 2
    lines = [problem.line for problem in caught.value.problems]
    assert lines == sorted(lines)


def test_reads_what_stands_in_the_file(tmp_path: Path) -> None:
    data = policy_data()
    data["handles"][ENTRY].update(
        key={"backend": "ssh-agent", "file": "/k", "passphrase": "credential:k"},
        not_before="1970-01-02T00:00:00Z", not_after=None, require="unproven", rate={"burst": 1, "per_hour": 2},
        hours=[{"days": ["mon", "sun"], "from": "08:00", "to": "24:00"}], enabled=False,
        cert={**CERT, "force_command": "~/bin/gwms-gate bosco"},
    )  # fmt: skip
    policy = load_policy(write_policy(tmp_path, data))
    entry = policy.entries[ENTRY]
    assert entry.key == KeySource("ssh-agent", file="/k", passphrase="credential:k")
    assert (entry.not_before, entry.not_after, entry.unproven, entry.enabled) == (86400, None, True, False)
    assert (entry.rate, entry.maintain) == (Rate(1, 2), Rate(5, 60))
    assert entry.hours == (Hours(frozenset({0, 6}), 480, 1440),)
    assert entry.cert is not None and entry.cert.ttl_s == 600 and entry.cert.source_address
    assert policy.factories["cern"].relay_host == "2001:db8::1"
    assert policy.factories["osg"].source_addresses == ("192.0.2.10/32",)


def test_leaves_out_to_the_safe_side() -> None:
    entry = as_policy(changed(*E, "maintain", drop=True)).entries[ENTRY]
    assert (entry.unproven, entry.maintain, entry.cert, entry.rate) == (False, None, None, Rate(10, 60))
    assert entry.purposes == (SUBMIT,)


def test_known_hosts_has_the_port_and_the_authorities() -> None:
    key, ca = signer("host").public.authorized, signer("host-ca").public.authorized
    hosts = [{"name": "A.example", "keys": [key + " root@a"]}, {"name": "b", "port": 2222, "keys": [key], "cas": [ca]}]
    text = as_policy(changed(*E, "hosts", value=hosts)).entries[ENTRY].known_hosts
    assert text == f"a.example {key}\n[b]:2222 {key}\n@cert-authority [b]:2222 {ca}\n"


def test_gives_each_purpose_its_handle() -> None:
    policy = keyed(policy_data())
    blob = signer("user").blob
    assert set(policy.handles) == {handle_id(SPKI, blob, SUBMIT), handle_id(SPKI, blob, MAINTAIN)}
    assert policy.handle_of(ENTRY, MAINTAIN).purpose == MAINTAIN
    assert [handle.purpose for handle in policy.of_factory("osg")] == [SUBMIT, MAINTAIN]
    assert policy.of_factory("cern") == ()


def test_a_disabled_entry_is_still_offered_so_that_the_factory_hears_why_it_gets_nothing() -> None:
    assert {handle.purpose for handle in keyed(changed(*E, "enabled", value=False)).of_factory("osg")} == {
        *(SUBMIT, MAINTAIN)
    }


def test_handle_of_a_fetched_key_is_made_of_the_entrys_name() -> None:
    policy = as_policy(changed(*E, "key", value={"backend": "exec", "command": ["/bin/fetch"]}))
    handles = [set(policy.keyed(SPKI, {ENTRY: signer(name).public}).handles) for name in ("one", "two")]
    anchor = named_anchor(ENTRY)
    assert handles[0] == handles[1] == {handle_id(SPKI, anchor, SUBMIT), handle_id(SPKI, anchor, MAINTAIN)}


def test_an_entry_whose_key_is_not_loaded_has_no_handle() -> None:
    policy = as_policy(policy_data()).keyed(SPKI, {})
    assert not policy.handles
    with pytest.raises(BrokerError, match="its public key is not known yet"):
        policy.handle_of(ENTRY, SUBMIT)
    with pytest.raises(BrokerError, match="other has no submit handle"):
        policy.handle_of("other", SUBMIT)


def test_refuses_one_key_for_two_entries() -> None:
    """The files differ, the keys in them do not."""
    second = {**policy_data()["handles"][ENTRY], "key": {"backend": "ssh-agent", "file": "/etc/keys/copy"}}
    policy = as_policy(changed("handles", "second", value=second))
    with pytest.raises(PolicyFileError, match=f"has the same key as {ENTRY}"):
        policy.keyed(SPKI, {ENTRY: signer("user").public, "second": signer("user").public})
    assert len(policy.keyed(SPKI, {ENTRY: signer("user").public, "second": signer("two").public}).handles) == 4


def test_refuses_an_entry_without_any_handle() -> None:
    data = changed(*E, "submit", value=False)
    assert as_policy(data).entries[ENTRY].purposes == (MAINTAIN,)
    data["handles"][ENTRY]["maintain"] = False
    with pytest.raises(PolicyFileError, match="no handle at all"):
        as_policy(data)


def test_certificates_for_the_factorys_addresses_need_them() -> None:
    data = changed(*E, "cert", value=CERT)
    assert as_policy(data).entries[ENTRY].cert
    data["handles"][ENTRY]["factories"] = ["osg", "cern"]
    with pytest.raises(PolicyFileError, match="cern has no source_addresses"):
        as_policy(data)
    data["handles"][ENTRY]["cert"]["source_address"] = "any"
    assert as_policy(data).entries[ENTRY].cert


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o620])
def test_refuses_a_policy_that_others_may_write(tmp_path: Path, mode: int) -> None:
    file = write_policy(tmp_path, policy_data())
    load_policy(file)
    file.chmod(mode)
    with pytest.raises(
        PolicyFileError, match=r"may be written by others, and decides who may log in where; chmod go-w"
    ):
        load_policy(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_refuses_a_policy_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_policy(tmp_path, policy_data())
    os.chown(file, 4321, -1)
    load_policy(file)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    with pytest.raises(PolicyFileError, match="belongs to another user"):
        load_policy(file)
    os.chown(file, 0, -1)
    load_policy(file)
