# SPDX-License-Identifier: Apache-2.0
"""Edits of the policy file: all or nothing, and never two at once."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.broker import admin
from glideinwms_bosco.broker.policy import Policy, load_policy
from glideinwms_bosco.errors import BrokerError, PolicyFileError, UsageError
from tests.unit.broker_text import ENTRY, HOST, OTHER_PIN, PIN, policy_data, signer, write_policy

NEW = signer("new").public
SECOND = {
    "key": {"backend": "ssh-agent", "file": "/etc/keys/second"},
    "user": "pilot",
    "hosts": [{"name": "h", "keys": [NEW.authorized]}],
    "factories": [],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_policy(tmp_path)


def data(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_adds_and_removes_a_key_and_keeps_the_order(path: Path) -> None:
    policy = admin.add_key(path, "second", SECOND)
    assert list(policy.entries) == [ENTRY, "second"]
    expected = policy_data()
    expected["handles"]["second"] = SECOND
    assert json.dumps(data(path)) == json.dumps(expected)
    admin.remove_key(path, "second")
    assert json.dumps(data(path)) == json.dumps(policy_data())


def test_without_a_policy_the_way_to_one_is_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "policy.json", tmp_path / "none" / "policy.json"):
        with pytest.raises(UsageError, match=r"there is no policy yet; gwms-ssh-broker init$"):
            admin.set_enabled(missing, ENTRY, False)


def test_disables_and_enables(path: Path) -> None:
    assert not admin.set_enabled(path, ENTRY, False).entries[ENTRY].enabled
    assert not load_policy(path).entries[ENTRY].enabled
    assert admin.set_enabled(path, ENTRY, True).entries[ENTRY].enabled


def test_rotates_a_key(path: Path) -> None:
    key = {"backend": "ssh-agent", "file": "/etc/keys/next"}
    assert admin.rotate_key(path, ENTRY, key).entries[ENTRY].key.file == "/etc/keys/next"
    with pytest.raises(UsageError, match="has this key already"):
        admin.rotate_key(path, ENTRY, key)


def test_rotation_can_keep_the_old_key_for_a_while(path: Path) -> None:
    admin.add_key(path, "last", SECOND)
    policy = admin.rotate_key(path, ENTRY, {"backend": "ssh-agent", "file": "/n"}, keep_old_as="old")
    assert list(policy.entries) == [ENTRY, "old", "last"]
    assert data(path)["handles"]["old"] == policy_data()["handles"][ENTRY]
    with pytest.raises(UsageError, match="already"):
        admin.rotate_key(path, ENTRY, {"backend": "ssh-agent", "file": "/m"}, keep_old_as="last")


def test_adds_a_factory_that_may_not_ask_until_it_is_allowed(path: Path) -> None:
    pin = "sha256:" + "1" * 64
    policy = admin.add_factory(path, "new", "relay.example.org:8620", [pin], ["198.51.100.0/24"])
    assert policy.factories["new"].pins == (pin,)
    assert policy.entries[ENTRY].factories == ("osg",)
    assert admin.allow_factory(path, ENTRY, "new").entries[ENTRY].factories == ("osg", "new")
    assert admin.allow_factory(path, ENTRY, "new").entries[ENTRY].factories == ("osg", "new")
    assert admin.allow_factory(path, ENTRY, "osg", allowed=False).entries[ENTRY].factories == ("new",)


def test_a_removed_factory_is_out_of_all_entries(path: Path) -> None:
    policy = admin.remove_factory(path, "osg")
    assert (list(policy.factories), policy.entries[ENTRY].factories) == (["cern"], ())


def test_old_key_that_is_fetched_cannot_be_kept_under_another_name(path: Path) -> None:
    """Its handle is made of the entry's name: the one in the frontend's credential would be the new key's."""
    command = {"backend": "exec", "command": ["/bin/fetch"]}
    admin.rotate_key(path, ENTRY, command)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="leave out --keep-old-as"):
        admin.rotate_key(path, ENTRY, {"backend": "ssh-agent", "file": "/n"}, keep_old_as="old")
    assert path.read_text(encoding="utf-8") == before
    assert admin.rotate_key(path, ENTRY, {**command, "command": ["/bin/other"]}).entries[ENTRY].key.command


def test_pins_overlap_while_a_relays_key_is_rotated(path: Path) -> None:
    pin = "sha256:" + "2" * 64
    assert admin.set_pins(path, "osg", add=[pin]).factories["osg"].pins == (PIN, pin)
    assert admin.set_pins(path, "osg", remove=[PIN]).factories["osg"].pins == (pin,)
    with pytest.raises(PolicyFileError, match="is empty"):
        admin.set_pins(path, "osg", remove=[pin])
    with pytest.raises(PolicyFileError, match="also the pin of"):
        admin.set_pins(path, "osg", add=[OTHER_PIN])
    with pytest.raises(UsageError, match="has no pin"):
        admin.set_pins(path, "osg", remove=[PIN])


def test_accepts_host_keys_once(path: Path) -> None:
    for _ in range(2):
        policy = admin.accept_host(path, ENTRY, HOST.upper(), 22, [NEW, signer("host").public])
    assert policy.entries[ENTRY].hosts[0].keys == (signer("host").public, NEW)
    policy = admin.accept_host(path, ENTRY, "Other.example", 2222, [NEW])
    assert [host.address for host in policy.entries[ENTRY].hosts] == [f"{HOST}:22", "other.example:2222"]
    with pytest.raises(UsageError, match="no key of h"):
        admin.accept_host(path, ENTRY, "h", 22, [])


def test_forgets_a_host_key_but_never_the_last_one(path: Path) -> None:
    admin.accept_host(path, ENTRY, HOST, 22, [NEW])
    policy = admin.forget_host_key(path, ENTRY, HOST, 22, signer("host").public.fingerprint)
    assert policy.entries[ENTRY].hosts[0].keys == (NEW,)
    with pytest.raises(UsageError, match="has no key"):
        admin.forget_host_key(path, ENTRY, HOST, 22, signer("host").public.fingerprint)
    with pytest.raises(PolicyFileError, match="neither host keys"):
        admin.forget_host_key(path, ENTRY, HOST, 22, NEW.fingerprint)


Edit = Callable[[Path], Policy]
REFUSED: dict[str, tuple[Edit, type[BaseException], str]] = {
    "key nobody knows": (lambda path: admin.set_enabled(path, "x", True), UsageError, f"known: {ENTRY}"),
    "removing what is not there": (lambda path: admin.remove_key(path, "x"), UsageError, "no key 'x'"),
    "factory nobody knows": (lambda path: admin.remove_factory(path, "x"), UsageError, "known: osg, cern"),
    "name in use": (lambda path: admin.add_key(path, ENTRY, SECOND), UsageError, "already"),
    "factory name in use": (lambda path: admin.add_factory(path, "osg", "h:1", [PIN]), UsageError, "already"),
    "key with an unknown field": (
        lambda path: admin.add_key(path, "s", {**SECOND, "x": 1}),
        PolicyFileError,
        "unknown",
    ),
    "key for an unknown factory": (
        lambda path: admin.add_key(path, "s", {**SECOND, "factories": ["x"]}),
        PolicyFileError,
        "no factory is called",
    ),
    "pin that is none": (lambda path: admin.add_factory(path, "n", "h:1", ["x"]), PolicyFileError, "not allowed"),
    "the key of another entry": (
        lambda path: admin.add_key(path, "s", {**SECOND, "key": policy_data()["handles"][ENTRY]["key"]}),
        PolicyFileError,
        "the key of",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_and_leaves_the_file_alone(name: str, path: Path) -> None:
    edit, error, words = REFUSED[name]
    before = (path.read_bytes(), path.stat().st_ino)
    with pytest.raises(error, match=words):
        edit(path)
    assert (path.read_bytes(), path.stat().st_ino) == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_says_that_the_lines_are_those_of_the_result(path: Path) -> None:
    with pytest.raises(PolicyFileError) as caught:
        admin.add_key(path, "s", {**SECOND, "x": 1})
    assert caught.value.problems[0].file == f"{path} (as it would be)"


def test_refuses_to_edit_a_file_with_problems(path: Path) -> None:
    path.write_text('{"version": 1,}', encoding="utf-8")
    with pytest.raises(PolicyFileError, match="comma too many"):
        admin.set_enabled(path, ENTRY, True)


def test_an_edit_that_changes_nothing_writes_nothing(path: Path) -> None:
    admin.set_enabled(path, ENTRY, True)
    inode = path.stat().st_ino
    admin.set_enabled(path, ENTRY, True)
    assert path.stat().st_ino == inode


def test_keeps_mode_and_owner(path: Path) -> None:
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    admin.set_enabled(path, ENTRY, False)
    after = path.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_follows_a_link_and_leaves_it_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    admin.set_enabled(link, ENTRY, False)
    assert link.is_symlink()
    assert not load_policy(path).entries[ENTRY].enabled


def test_edits_at_the_same_time_all_count(path: Path) -> None:
    threads = [
        threading.Thread(
            target=admin.add_key, args=(path, f"k{i}", {**SECOND, "key": {"backend": "ssh-agent", "file": f"/{i}"}})
        )
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(load_policy(path).entries) == {ENTRY, *(f"k{i}" for i in range(6))}


def test_gives_up_when_another_edit_does_not_end(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(BrokerError, match="another edit"):
            admin.edit(path, dict.clear, wait_s=0.1)
    finally:
        os.close(folder)


def test_does_not_overwrite_what_an_editor_has_saved_meanwhile(path: Path) -> None:
    mine = path.read_text(encoding="utf-8").replace('"cmspilot"', '"saved"')

    def change(data: dict[str, Any]) -> None:
        data["handles"][ENTRY]["enabled"] = False
        path.write_text(mine, encoding="utf-8")

    with pytest.raises(BrokerError, match="somebody else has changed it"):
        admin.edit(path, change)
    assert path.read_text(encoding="utf-8") == mine


def test_creates_an_empty_policy_that_can_be_added_to(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    admin.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not load_policy(path).entries
    admin.add_key(path, "second", SECOND)
    with pytest.raises(UsageError, match="exists already"):
        admin.create(path)
    with pytest.raises(BrokerError, match="cannot be written"):
        admin.create(tmp_path / "none" / "p.json")
