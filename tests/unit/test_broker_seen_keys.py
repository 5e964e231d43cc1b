# SPDX-License-Identifier: Apache-2.0
"""Public keys that the broker remembers: by entry and source, over a restart, and never at the cost of a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from glideinwms_bosco.broker.policy_model import KeySource
from glideinwms_bosco.broker.seen_keys import FILE_NAME, SeenKeys
from tests.unit.broker_text import ENTRY, as_policy, changed, policy_data, signer

POLICY = as_policy(policy_data())
SOURCE = POLICY.entries[ENTRY].key
KEY = signer("user").public


def test_is_remembered_over_a_restart(tmp_path: Path) -> None:
    SeenKeys(tmp_path).learn(POLICY, {ENTRY: KEY})
    seen = SeenKeys(tmp_path)
    assert seen.get(ENTRY, SOURCE) == KEY
    # What is not loaded this time stays.
    seen.learn(POLICY, {})
    assert SeenKeys(tmp_path).get(ENTRY, SOURCE) == KEY


def test_is_forgotten_with_its_source_or_its_entry(tmp_path: Path) -> None:
    seen = SeenKeys(tmp_path)
    seen.learn(POLICY, {ENTRY: KEY})
    assert seen.get(ENTRY, KeySource("pkcs11", provider="/lib/x.so")) is None
    assert seen.get("other", SOURCE) is None
    seen.learn(as_policy(changed("handles", value={})), {})
    assert SeenKeys(tmp_path).get(ENTRY, SOURCE) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"keys": 1}', '{"keys": {"a": {}}}', '{"keys": {"a": {"source": "", "public": "x"}}}'],
)
def test_file_that_is_none_counts_as_empty(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    seen = SeenKeys(tmp_path)
    assert "is not used" in caplog.text
    seen.learn(POLICY, {ENTRY: KEY})
    assert SeenKeys(tmp_path).get(ENTRY, SOURCE) == KEY


def test_folder_that_cannot_be_written_is_said_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen = SeenKeys(tmp_path / "none")
    seen.learn(POLICY, {ENTRY: KEY})
    assert seen.get(ENTRY, SOURCE) == KEY
    assert "cannot be written" in caplog.text
