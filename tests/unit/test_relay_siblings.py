# SPDX-License-Identifier: Apache-2.0
"""Handles beside a handle, for jump hosts: all of a few, the nearest of many."""

from __future__ import annotations

import time

from glideinwms_bosco.relay.offered import Host, OfferedHandle
from glideinwms_bosco.relay.siblings import MAX_SIBLINGS, with_siblings
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT
from glideinwms_bosco.sshwire.keys import parse_public_key
from tests.unit.relay_fixture import SigningKey

KEY = parse_public_key(SigningKey().blob)


def _handle(name: str, host: str, user: str = "pilot", purpose: str = SUBMIT) -> OfferedHandle:
    return OfferedHandle(name, "pin", purpose, user, (Host(host, 22),), KEY, b"", ())


def _siblings(*handles: OfferedHandle) -> dict[str, list[str]]:
    return {own.handle: [other.handle for other in others] for own, others in with_siblings(handles)}


def test_a_few_handles_all_know_each_other() -> None:
    handles = [_handle(str(at), f"h{at}.site{at}.example") for at in range(MAX_SIBLINGS + 1)]
    assert all(len(others) == MAX_SIBLINGS for others in _siblings(*handles).values())


def test_another_purpose_or_a_second_handle_of_the_account_is_no_sibling() -> None:
    found = _siblings(
        _handle("a", "login.site.example"),
        _handle("b", "login.site.example"),
        _handle("c", "gate.site.example", purpose=MAINTAIN),
        _handle("d", "login.site.example", user="other"),
    )
    assert found == {"a": ["d"], "b": ["d"], "c": [], "d": ["a", "b"]}


def test_of_many_the_sites_own_jump_host_is_among_them() -> None:
    """Also as the last of a thousand; and a thousand are done at once."""
    handles = [_handle(str(at), f"login.site{at}.example", user=f"u{at}") for at in range(1000)]
    began = time.process_time()
    found = _siblings(*handles, _handle("gate", "gate.site7.example"))
    assert time.process_time() - began < 2
    assert found["7"][0] == "gate"
    assert max(map(len, found.values())) == MAX_SIBLINGS
