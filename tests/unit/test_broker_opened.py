# SPDX-License-Identifier: Apache-2.0
"""The file that says which maintenance handles are open."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from glideinwms_bosco.broker.opened import (
    FILE,
    MAX_OPEN_S,
    close_entry,
    open_entry,
    parse_duration,
    read_opened,
)
from glideinwms_bosco.errors import BrokerError, UsageError


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("2h", 7200), ("7d", MAX_OPEN_S)])
def test_reads_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "0h", "-1h", "1.5h", " 2h", "2h ", "8d", "٢h", "99999d", "1h30m", "+2h"])
def test_refuses_other_durations(text: str) -> None:
    with pytest.raises(UsageError, match="duration"):
        parse_duration(text)


def test_opens_and_closes(tmp_path: Path) -> None:
    assert open_entry(tmp_path, "a", 60, 1000.5) == 1060
    open_entry(tmp_path, "b", 120, 1000.5)
    assert read_opened(tmp_path) == {"a": 1060.0, "b": 1120.0}
    assert close_entry(tmp_path, "a", 1001.0)
    assert not close_entry(tmp_path, "a", 1001.0)
    assert read_opened(tmp_path) == {"b": 1120.0}


def test_opening_again_counts_from_now(tmp_path: Path) -> None:
    open_entry(tmp_path, "a", 3600, 1000)
    open_entry(tmp_path, "a", 60, 1000)
    assert read_opened(tmp_path) == {"a": 1060.0}


def test_drops_what_has_passed(tmp_path: Path) -> None:
    open_entry(tmp_path, "old", 60, 1000)
    open_entry(tmp_path, "new", 60, 2000)
    assert read_opened(tmp_path) == {"new": 2060.0}


@pytest.mark.parametrize("for_s", [0, -1, MAX_OPEN_S + 1])
def test_refuses_an_endless_time(for_s: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="duration"):
        open_entry(tmp_path, "a", for_s, 0)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"a": ', b'{"a": "9999999999"}', b'{"a": true}', b"\xff", b"[" * 9999]
)
def test_a_file_that_is_none_of_ours_opens_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read_opened(tmp_path) == {}


def test_opening_at_the_same_time_loses_nothing(tmp_path: Path) -> None:
    threads = [threading.Thread(target=open_entry, args=(tmp_path, f"e{i}", 60, 0)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(json.loads((tmp_path / FILE).read_text(encoding="utf-8"))) == 8
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_says_when_the_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="cannot write"):
        open_entry(tmp_path / "none", "a", 60, 0)
