# SPDX-License-Identifier: Apache-2.0
"""The broker's command line: exit status, one line per error, and that its edits reach policy and running broker."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from glideinwms_bosco.cli import ssh_broker_policy
from glideinwms_bosco.cli.ssh_broker import build_parser, main
from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.sshwire.handle import read_handle_text
from glideinwms_bosco.sshwire.keys import parse_authorized
from tests.unit.broker_keys import make_ssh_key, secret_file, short_folder, until
from tests.unit.broker_world import BrokerWorld, login_request
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd", "short_folder"]

OK, REFUSED, USAGE, REMOTE = range(4)
PIN = "sha256:" + "1" * 64
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of a broker below a temporary one, none of them made yet."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    for variable, name in (("DIR", "etc"), ("STATE", "state"), ("LOG", "log")):
        monkeypatch.setenv(f"GWMS_SSH_BROKER_{variable}", str(short_folder / name))
    return short_folder


def _policy(folder: Path) -> Any:
    return json.loads((folder / "etc" / "policy.json").read_text())


def _error(capsys: Capture) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gwms-ssh-broker: error: ")
    return line


@pytest.fixture
def ready(folder: Path, capsys: Capture, loopback_sshd: LoopbackSshd) -> Path:
    """A broker with one factory and one key, all by the command line."""
    assert main(["init"]) == OK
    assert main(["factory", "add", "osg", "--relay", "relay.example.org:8620", "--spki", PIN]) == OK
    make_ssh_key(folder / "etc" / "key")
    fingerprint = parse_authorized(loopback_sshd.host_key).fingerprint
    host = f"127.0.0.1:{loopback_sshd.port}"
    argv = ["key", "add", "site", "--file", str(folder / "etc" / "key"), "--user", "pilot", "--host", host]
    assert main([*argv, "--accept", fingerprint, "--factory", "osg", "--maintain"]) == OK
    capsys.readouterr()
    return folder


def test_init_shows_the_same_pin_again(folder: Path, capsys: Capture) -> None:
    assert main(["init"]) == OK
    first = capsys.readouterr().out
    assert first.startswith("broker sha256:")
    assert (folder / "state" / "broker.key").stat().st_mode & 0o777 == 0o600
    assert main(["init"]) == OK
    assert capsys.readouterr().out == first


def test_key_add_shows_host_keys_and_adds_nothing_before_they_are_accepted(
    folder: Path, capsys: Capture, loopback_sshd: LoopbackSshd
) -> None:
    main(["init"])
    capsys.readouterr()
    make_ssh_key(folder / "etc" / "key")
    argv = ["key", "add", "site", "--file", str(folder / "etc" / "key"), "--user", "pilot"]
    assert main([*argv, "--host", f"127.0.0.1:{loopback_sshd.port}"]) == REFUSED
    output = capsys.readouterr()
    assert parse_authorized(loopback_sshd.host_key).fingerprint in output.out
    assert "nothing was added; compare them" in output.err
    assert _policy(folder)["handles"] == {}


@pytest.mark.usefixtures("folder")
def test_unknown_factory_is_refused_before_a_host_is_asked(capsys: Capture) -> None:
    main(["init"])
    capsys.readouterr()
    argv = ["key", "add", "site", "--file", "/x", "--user", "pilot", "--host", "127.0.0.1:1", "--factory", "osg"]
    assert main(argv) == USAGE
    assert _error(capsys).endswith("there is no factory 'osg' in the policy; known: none")


def test_added_key_stands_in_the_policy(ready: Path, loopback_sshd: LoopbackSshd, capsys: Capture) -> None:
    entry = _policy(ready)["handles"]["site"]
    assert entry["hosts"] == [{"name": "127.0.0.1", "port": loopback_sshd.port, "keys": [loopback_sshd.host_key]}]
    assert (entry["user"], entry["factories"], entry["require"]) == ("pilot", ["osg"], "host")
    assert main(["key", "list", "--json"]) == OK
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["enabled"], row["purposes"]) == ("site", True, ["submit", "maintain"])


def test_key_show_gives_handles_and_the_line_for_the_site(ready: Path, capsys: Capture) -> None:
    assert main(["key", "show", "site", "--json"]) == OK
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["handles"]) == {"submit", "maintain"}
    public = " ".join((ready / "etc" / "key.pub").read_text().split()[:2])
    assert shown["authorized_keys"].startswith("restrict,port-forwarding")
    assert public in shown["authorized_keys"]


def test_disable_enable_remove(ready: Path, capsys: Capture) -> None:
    assert main(["key", "disable", "site"]) == OK
    assert "no broker runs" in capsys.readouterr().out
    assert _policy(ready)["handles"]["site"]["enabled"] is False
    assert main(["key", "enable", "site"]) == OK
    assert _policy(ready)["handles"]["site"]["enabled"] is True
    assert main(["key", "remove", "site"]) == OK
    assert _policy(ready)["handles"] == {}


def test_rotate_gives_another_handle_and_keeps_the_old_beside(ready: Path, capsys: Capture) -> None:
    make_ssh_key(ready / "etc" / "new")
    assert main(["key", "rotate", "site", "--file", str(ready / "etc" / "new"), "--keep-old-as", "site-old"]) == OK
    capsys.readouterr()
    handles = []
    for name in ("site", "site-old"):
        assert main(["key", "show", name, "--json"]) == OK
        handles.append(json.loads(capsys.readouterr().out)["handles"]["submit"])
    assert len(set(handles)) == 2


def test_maintenance_is_opened_for_a_while_and_closed(ready: Path, capsys: Capture) -> None:
    assert main(["key", "open", "site", "--for", "2h"]) == OK
    assert "is open until" in capsys.readouterr().out
    assert main(["key", "list"]) == OK
    assert "maintenance open" in capsys.readouterr().out
    assert main(["key", "close", "site"]) == OK
    assert main(["key", "close", "site"]) == OK
    assert capsys.readouterr().out.splitlines() == ["maintenance of site is closed", "maintenance of site was not open"]
    assert "opened" not in (ready / "etc" / "policy.json").read_text()


def test_factories_are_listed_pinned_and_forbidden(ready: Path, capsys: Capture) -> None:
    second = "sha256:" + "2" * 64
    assert main(["factory", "pin", "osg", "--add", second, "--remove", PIN]) == OK
    assert main(["factory", "forbid", "osg", "site"]) == OK
    capsys.readouterr()
    assert main(["factory", "list", "--json"]) == OK
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["spki"], row["keys"]) == ([second], [])
    assert main(["factory", "allow", "osg", "site"]) == OK
    assert main(["factory", "remove", "osg"]) == OK
    assert _policy(ready)["handles"]["site"]["factories"] == []


def test_learn_tells_known_from_new_and_warns_of_a_change(
    ready: Path, capsys: Capture, loopback_sshd: LoopbackSshd
) -> None:
    argv = ["learn", f"127.0.0.1:{loopback_sshd.port}", "--key", "site"]
    assert main(argv) == OK
    assert capsys.readouterr().out.startswith("known ")
    other = make_ssh_key(ready / "other")
    data = _policy(ready)
    data["handles"]["site"]["hosts"][0]["keys"] = [other.authorized]
    (ready / "etc" / "policy.json").write_text(json.dumps(data))
    assert main(argv) == REFUSED
    assert "none of the registered keys is shown" in capsys.readouterr().out
    fingerprint = parse_authorized(loopback_sshd.host_key).fingerprint
    assert main([*argv, "--accept", fingerprint]) == OK
    assert loopback_sshd.host_key in _policy(ready)["handles"]["site"]["hosts"][0]["keys"]


def test_stanza_writes_a_handle_and_no_key(ready: Path, capsys: Capture) -> None:
    target = ready / "frontend"
    target.mkdir()
    argv = ["stanza", "site", "--frontend", "3.11", "--trust-domain", "juwels", "--folder", str(target)]
    assert main(argv) == OK
    assert "not written yet" in capsys.readouterr().out
    assert not list(target.iterdir())
    assert main([*argv, "--write", "--json"]) == OK
    answer = json.loads(capsys.readouterr().out)
    assert 'trust_domain="juwels"' in answer["xml"]
    private = next(file for file in target.iterdir() if not file.name.endswith(".pub"))
    assert read_handle_text(private.read_bytes()) is not None


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["key", "show", "none"], USAGE, "there is no key 'none' in the policy; known: site"),
        (["key", "open", "site", "--for", "2y"], USAGE, "'2y' is no usable duration"),
        (["factory", "remove", "none"], USAGE, "there is no factory 'none'"),
        (["learn", "127.0.0.1:x", "--key", "site"], USAGE, "no usable port"),
        (["audit", "--journal", "x"], USAGE, "--journal is of use with --verify only"),
        (["status"], REMOTE, "the broker does not run; systemctl start"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_is_one_line(ready: Path, capsys: Capture, argv: list[str], status: int, words: str) -> None:
    before = _policy(ready)
    assert main(argv) == status
    assert words in _error(capsys)
    assert _policy(ready) == before


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("argv", [["key", "list"], ["factory", "list"], ["stanza", "x"]], ids=" ".join)
def test_nothing_set_up_says_init(capsys: Capture, argv: list[str]) -> None:
    more = ["--frontend", "3.11", "--trust-domain", "x"] if argv[0] == "stanza" else []
    assert main([*argv, *more]) != OK
    assert "init" in _error(capsys)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("noun", ["key", "factory"])
def test_empty_list_says_how_to_fill_it(capsys: Capture, noun: str) -> None:
    assert main(["init"]) == OK
    capsys.readouterr()
    assert main([noun, "list"]) == OK
    said = capsys.readouterr()
    assert (said.out, f"gwms-ssh-broker {noun} add --help" in said.err) == ("", True)
    assert main([noun, "list", "--json"]) == OK
    assert (json.loads(capsys.readouterr().out), said.err.count("\n")) == ([], 1)


def test_policy_with_problems_is_told_by_line(ready: Path, capsys: Capture) -> None:
    file = ready / "etc" / "policy.json"
    file.write_text(file.read_text().replace('"user"', '"usr"'))
    assert main(["key", "list"]) == REFUSED
    assert f"{file}:" in capsys.readouterr().err


def test_running_broker_takes_up_an_edit_and_shows_its_status(
    short_folder: Path, folder: Path, capsys: Capture
) -> None:
    world = BrokerWorld(short_folder)
    world.add_key("site")

    async def run() -> None:
        async with world.running() as (_, relay):
            await until(lambda: world.status("factories", "fact", "offered") == 1)
            assert main(["status"]) == OK
            shown = capsys.readouterr().out
            assert "key     site                     ready" in shown
            assert "factory fact                     up since" in shown
            assert await in_thread("key", "disable", "site") == OK
            assert capsys.readouterr().out.endswith("; the running broker uses it\n")
            assert world.status("policy", "sha256") == hashlib.sha256(world.paths.policy.read_bytes()).hexdigest()
            item = relay.items["site", "submit"]
            assert (await relay.denied(login_request(item))).code == DenyCode.DISABLED

    asyncio.run(run())
    capsys.readouterr()
    assert main(["audit"]) == OK
    events = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert events == ["start", "policy", "deny", "stop"]
    assert main(["audit", "--verify", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["findings"] == []
    log = folder / "log" / "audit.jsonl"
    log.write_text(log.read_text().replace('"event":"policy"', '"event":"nothing"'))
    assert main(["audit", "--verify"]) == REFUSED
    assert "NOT whole" in capsys.readouterr().out


async def in_thread(*words: str) -> int:
    """Run a command beside a broker of this process, which has to go on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(None, main, [*words])


@pytest.mark.usefixtures("folder")
def test_key_is_called_used_when_the_running_broker_has_loaded_it(
    short_folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(short_folder))
    world = BrokerWorld(short_folder)
    world.add_key("site")
    etc = world.paths.config_dir
    make_ssh_key(etc / "open")
    make_ssh_key(etc / "sealed", passphrase="a passphrase")

    async def run() -> None:
        async with world.running():
            assert await in_thread("key", "rotate", "site", "--file", str(etc / "open")) == OK
            assert capsys.readouterr().out.endswith("; the running broker uses it\n")
            assert world.status("entries", "site", "trouble") == ""
            sealed = ("--file", str(etc / "sealed"), "--passphrase", "credential:sealed")
            assert await in_thread("key", "rotate", "site", *sealed) == OK

    asyncio.run(run())
    said = capsys.readouterr().out
    assert "the running broker uses it" not in said
    assert "the running broker has read it, and cannot sign with this key: " in said
    assert said.endswith("systemctl restart gwms-ssh-broker\n")


@pytest.mark.usefixtures("folder")
def test_what_is_said_of_an_edit_that_changes_nothing_is_of_after_it(
    short_folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key file was mended; the policy is as it was, and so was what the status said."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(short_folder))
    world = BrokerWorld(short_folder)
    world.add_key("site")
    key = world.paths.config_dir / "mended"
    make_ssh_key(key, passphrase="a passphrase")

    async def run() -> None:
        async with world.running():
            sealed = ("--file", str(key), "--passphrase", "credential:later")
            assert await in_thread("key", "rotate", "site", *sealed) == OK
            assert "cannot sign with this key: " in capsys.readouterr().out
            secret_file(short_folder / "later", "a passphrase")
            assert await in_thread("key", "enable", "site") == OK

    asyncio.run(run())
    assert capsys.readouterr().out == "site enabled; the running broker uses it\n"


@pytest.mark.usefixtures("folder")
def test_edit_that_the_running_broker_does_not_take_up_is_not_called_used(
    short_folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_broker_policy, "TAKEN_UP_WITHIN_S", 0.3)
    world = BrokerWorld(short_folder)
    world.add_key("site")

    async def run() -> None:
        async with world.running():
            # The broker cannot go on while this runs.
            assert main(["key", "disable", "site"]) == OK

    asyncio.run(run())
    assert capsys.readouterr().out.endswith("; the running broker has not taken it up yet: gwms-ssh-broker status\n")


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for verb in action.choices.values():
            yield from _parsers(verb)


def test_every_verb_has_an_example_that_parses(capsys: Capture) -> None:
    parse: Callable[[list[str]], object] = build_parser().parse_args
    for parser in _parsers(build_parser()):
        assert parser.epilog is not None
        assert parser.epilog.startswith(f"example: {parser.prog}"), parser.prog
        parse(parser.epilog.split()[2:])
    capsys.readouterr()
