# SPDX-License-Identifier: Apache-2.0
"""What a probe finds out about a closed site: facts to findings, and the program against a real sshd."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from glideinwms_bosco.remote.messages import Message, Reply
from glideinwms_bosco.remote.probe_codes import Finding
from glideinwms_bosco.remote.probe_network import (
    NetworkFacts,
    NetworkWishes,
    ask_network,
    find_network,
    network_wishes,
    parse_network,
)
from tests.free_port import ADDRESS, free_port
from tests.unit.site_text import changed_site
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_deploy import snapshot
from tests.unit.test_remote_ssh import runtime_directory

__all__ = ["loopback_sshd", "runtime_directory"]

KEY, OTHER = "ssh-ed25519 AAAAown", "ssh-ed25519 AAAAother"
SUM = "a" * 64
WISHES = NetworkWishes("/p/image.sif", SUM, ("/a.so", "/b.so"), ("proxy", 80), ("l1", "l2"), 22, (KEY,), True)
GOOD = NetworkFacts("regular file", 5, SUM, ("/b.so",), "open", True, {"l1": (OTHER, KEY), "l2": (KEY,)}, True)


def codes(settings: Optional[dict[str, str]] = None, wishes: NetworkWishes = WISHES, **changed: Any) -> list[int]:
    facts = dataclasses.replace(GOOD, **changed)
    return [finding.number for finding in find_network(facts, wishes, settings or {})]


def test_site_with_all_it_needs_has_no_findings() -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("number", "changed"),
    [
        (90, {"image": "none", "image_sum": None}),
        (91, {"image_sum": "b" * 64}),
        (91, {"image": "directory", "image_sum": None}),
        (92, {"image_sum": None}),
        (93, {"libraries": ()}),
        (94, {"host_keys": {"l1": (KEY,), "l2": ()}}),
        (94, {"host_keys": {"l1": (KEY,)}}),
        (95, {"host_keys": {"l1": (KEY,), "l2": (OTHER,)}}),
        (96, {"egress": "closed bash: connect: Connection refused", "forwarding": None}),
        (96, {"egress": "closed ", "forwarding": None}),
        (97, {"forwarding": False}),
        (98, {"settings": {"authorizedkeysfile": "/etc/ssh/keys/%u"}}),
        (80, {"image": None}),
        (80, {"egress": None, "forwarding": None}),
        (80, {"can_scan": False, "host_keys": {}}),
    ],
)
def test_one_changed_fact_gives_one_finding(number: int, changed: dict[str, Any]) -> None:
    assert codes(**changed) == [number]


@pytest.mark.parametrize("value", [".ssh/authorized_keys .ssh/authorized_keys2", "/k/%u %h/.ssh/authorized_keys"])
def test_own_authorized_keys_file_is_enough(value: str) -> None:
    assert codes({"authorizedkeysfile": value}) == []


def test_keys_file_matters_only_to_a_key_made_on_the_site() -> None:
    wishes = dataclasses.replace(WISHES, site_key=False)
    assert codes({"authorizedkeysfile": "/etc/ssh/keys/%u"}, wishes) == []


def test_answers_that_make_no_sense_leave_their_facts_unknown() -> None:
    lines = ["IMAGE x", "IMAGE-SUM ../..", "LIBRARY /evil.so", "HOST evil", "HOST-KEY evil ssh-rsa A", "HOST l1"]
    messages = tuple(Message(*line.split(" ", 1)) for line in lines)
    facts = parse_network(Reply("", True, True, messages), WISHES, None)
    assert facts == NetworkFacts(None, None, None, (), None, None, {"l1": ()}, True)


@pytest.fixture
def egress() -> Iterator[int]:
    """Port of something that takes connections."""
    with socket.create_server((ADDRESS, 0)) as listener:
        yield int(listener.getsockname()[1])


def ask(daemon: LoopbackSshd, wishes: NetworkWishes, image_timeout_s: int = 20) -> tuple[Finding, ...]:
    before = snapshot(daemon.home)
    with daemon.session() as session:
        facts = ask_network(session, wishes, image_timeout_s)
    assert snapshot(daemon.home) == before
    return tuple(find_network(facts, wishes, {}))


@pytest.fixture
def wishes(loopback_sshd: LoopbackSshd, egress: int, tmp_path: Path) -> NetworkWishes:
    """Those of a site that has everything."""
    image, library = tmp_path / "an image.sif", tmp_path / "lib.so"
    image.write_bytes(b"image")
    library.touch()
    return NetworkWishes(
        str(image), hashlib.sha256(b"image").hexdigest(), ("/nonexistent.so", str(library)), (ADDRESS, egress),
        (ADDRESS, "localhost"), loopback_sshd.port, (loopback_sshd.host_key,), True,
    )  # fmt: skip


def test_complete_site_is_found_complete(loopback_sshd: LoopbackSshd, wishes: NetworkWishes) -> None:
    # sshd listens on 127.0.0.1 only, which is what localhost is too, at last.
    assert ask(loopback_sshd, wishes) == ()


def test_image_is_read_in_full(loopback_sshd: LoopbackSshd, wishes: NetworkWishes, tmp_path: Path) -> None:
    (tmp_path / "an image.sif").write_bytes(b"imagE")
    (finding,) = ask(loopback_sshd, wishes)
    assert finding.number == 91
    os.truncate(tmp_path / "an image.sif", 200 * 1024**3)
    (finding,) = ask(loopback_sshd, wishes, image_timeout_s=1)
    assert finding.number == 92
    (tmp_path / "an image.sif").unlink()
    (finding,) = ask(loopback_sshd, wishes)
    assert finding.number == 90


def test_egress_proxy_and_login_node_that_do_not_answer(loopback_sshd: LoopbackSshd, wishes: NetworkWishes) -> None:
    closed = dataclasses.replace(wishes, egress=(ADDRESS, free_port()), login_hosts=("127.0.0.9", ADDRESS))
    found = {finding.number: finding.message for finding in ask(loopback_sshd, closed)}
    assert sorted(found) == [94, 96]
    assert "127.0.0.9" in found[94]
    assert "refused" in found[96]


def test_key_that_is_not_pinned(loopback_sshd: LoopbackSshd, wishes: NetworkWishes) -> None:
    (finding,) = ask(loopback_sshd, dataclasses.replace(wishes, login_keys=(OTHER,)))
    assert finding.number == 95


@pytest.mark.parametrize("setting", ["AllowTcpForwarding remote", "PermitOpen 127.0.0.1:1"])
def test_forwarding_that_sshd_refuses(loopback_sshd: LoopbackSshd, wishes: NetworkWishes, setting: str) -> None:
    loopback_sshd.restart("Match all", setting)
    (finding,) = ask(loopback_sshd, wishes)
    assert finding.number == 97


def test_site_without_network_and_image_is_not_asked(tmp_path: Path) -> None:
    assert network_wishes(changed_site(tmp_path)) is None
