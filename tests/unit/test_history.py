# SPDX-License-Identifier: Apache-2.0
"""The history is one small file per account and command; a damaged one is as none."""

from __future__ import annotations

from pathlib import Path

import pytest

from glideinwms_bosco.remote.history import Event, History

EVENT = Event("deploy", 1.5, True, "installed", {"digest": "a"})


def test_event_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.record("site", "pilot", EVENT)
    assert history.last("site", "pilot", "deploy") == EVENT
    assert history.last("site", "pilot", "probe") is None
    assert history.last("site", "other", "deploy") is None


def test_later_event_takes_the_place(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.record("site", "pilot", EVENT)
    history.record("site", "pilot", Event("deploy", 2.0, False, "refused"))
    assert history.last("site", "pilot", "deploy") == Event("deploy", 2.0, False, "refused")
    assert [path.name for path in (tmp_path / "history" / "site").iterdir()] == ["pilot.deploy.json"]


@pytest.mark.parametrize("name", ["..", "a/b", "../../x", ".x"])
def test_name_does_not_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    History(tmp_path).record(name, name, EVENT)
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.parent.parent == tmp_path / "history"
    assert History(tmp_path).last(name, name, "deploy") == EVENT


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"at": "x"}', '{"at": 1, "ok": true, "headline": 3, "report": {}}', "[" * 99999]
    + [f'{{"at": {at}, "ok": true, "headline": "", "report": {{}}}}' for at in ("NaN", "1e999", "9" * 400, -1, 1e12)],
)
def test_damaged_file_is_as_none(text: str, tmp_path: Path) -> None:
    history = History(tmp_path)
    history.record("site", "pilot", EVENT)
    (tmp_path / "history" / "site" / "pilot.deploy.json").write_text(text)
    assert history.last("site", "pilot", "deploy") is None


def test_failed_targets_keep_their_order(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.failed("deploy") == ()
    history.set_failed("deploy", ["b:x", "a:x"])
    assert history.failed("deploy") == ("b:x", "a:x")
    (tmp_path / "failed" / "deploy.json").write_text("{")
    assert history.failed("deploy") == ()
