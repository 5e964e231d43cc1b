# SPDX-License-Identifier: Apache-2.0
"""Pilots that say themselves that they run are counted, and nothing else in that folder is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from glideinwms_bosco.remote.installed import Installed
from glideinwms_bosco.remote.messages import Message, MessageFormatError, Reply
from glideinwms_bosco.remote.site_pilots import (
    MAX_AGE_S,
    MAX_AHEAD_S,
    MAX_MARKERS,
    MAX_NODES,
    SitePilots,
    parse_markers,
)
from glideinwms_bosco.remote.status import look
from glideinwms_bosco.site.network import PILOT_LIFE_DAYS
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_remote_deploy import snapshot
from tests.unit.test_remote_ssh import runtime_directory

__all__ = ["loopback_sshd", "runtime_directory"]

DIR = "site/bosco"
NOW = 1_000_000


def parse(*names: str, now: str = str(NOW)) -> SitePilots:
    messages = (Message("NOW", now), *(Message("PILOT", name) for name in names))
    return parse_markers(Reply("", True, True, messages))


def test_pilots_are_counted_by_who_started_them() -> None:
    names = ("n2.7.999000.hand", "n1.site.org.8.999000.hand", "n1.site.org.9.999500.hand", "n3.1.999000.batch")
    assert parse(*names) == SitePilots(3, 1, ("n1.site.org", "n2"))


def test_pilot_counts_as_long_as_its_connections_may_last() -> None:
    """One in an allocation of seven days is seen to its end."""
    assert MAX_AGE_S == PILOT_LIFE_DAYS * 86400 > 7 * 86400


@pytest.mark.parametrize(
    ("age_s", "counts"), [(MAX_AGE_S, 1), (MAX_AGE_S + 1, 0), (-MAX_AHEAD_S, 1), (-MAX_AHEAD_S - 1, 0)]
)
def test_file_of_another_time_says_nothing(age_s: int, counts: int) -> None:
    assert parse(f"n.1.{NOW - age_s}.hand").hand == counts


@pytest.mark.parametrize(
    "name", ["", "hand", "n.1.x.hand", "n.1.999000.foot", ".1.999000.hand", "n 1.999000.hand", "n.1.999000.hand x",
             "n.-1.999000.hand", "n.1.+999000.hand", "n.1.999_000.hand", "n.12345678901.999000.hand"],
)  # fmt: skip
def test_other_name_says_nothing(name: str) -> None:
    assert parse(name) == SitePilots()


def test_nodes_are_bounded() -> None:
    names = [f"n{number:03}.1.{NOW}.hand" for number in range(MAX_NODES + 1)]
    found = parse(*names)
    assert (found.hand, len(found.hand_nodes), found.more_nodes) == (MAX_NODES + 1, MAX_NODES, True)
    assert parse(*names[:-1]).more_nodes is False


@pytest.mark.parametrize("now", ["", "x", "1_0", "-5", "1" * 13])
def test_answer_without_a_time_is_refused(now: str) -> None:
    with pytest.raises(MessageFormatError):
        parse(now=now)


def test_account_is_asked_and_left_as_it_is(loopback_sshd: LoopbackSshd) -> None:
    folder = loopback_sshd.home / DIR / "pilots"
    folder.mkdir(parents=True)
    (loopback_sshd.home / DIR / "glite").symlink_to("versions/" + "a" * 64)
    now = int(time.time())
    for name in (f"n1.5.{now}.hand", f"n2.6.{now}.batch", f"n3.7.{now - MAX_AGE_S - 10}.hand", "notes", "-rf"):
        (folder / name).touch()
    (folder / f"n4.8.{now}.hand").mkdir()
    (folder / f"n5.9.{now}.hand").symlink_to("notes")
    for odd in (b"a\nPILOT n6.1.%d.hand" % now, b"b\nn7.1.%d.hand" % now, b"\xff.1.%d.hand" % now):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + odd)).touch()
    before = snapshot(loopback_sshd.home)
    with loopback_sshd.session() as session:
        installed, pilots = look(session, DIR)
    assert installed == Installed("ours", "a" * 64)
    assert pilots == SitePilots(1, 1, ("n1",))
    assert snapshot(loopback_sshd.home) == before


def test_crowded_folder_is_bounded(loopback_sshd: LoopbackSshd) -> None:
    folder = loopback_sshd.home / DIR / "pilots"
    folder.mkdir(parents=True)
    now = int(time.time())
    for number in range(MAX_MARKERS + 5):
        (folder / f"n.{number}.{now}.hand").touch()
    with loopback_sshd.session() as session:
        assert look(session, DIR)[1].hand == MAX_MARKERS
