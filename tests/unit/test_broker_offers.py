# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from glideinwms_bosco.broker.certified import Certified
from glideinwms_bosco.broker.keyring import KeyRing
from glideinwms_bosco.broker.offers import offer_items
from glideinwms_bosco.broker.policy_model import Entry, Factory, Handle, Host, KeyedPolicy, KeySource, Policy
from glideinwms_bosco.errors import WireError
from glideinwms_bosco.link.frames import MAX_OFFER_BODY, encode
from glideinwms_bosco.link.messages import MAX_OFFERED, Offer, parse
from glideinwms_bosco.sshwire.handle import SUBMIT
from glideinwms_bosco.sshwire.keys import parse_public_key
from tests.unit.ssh_builder import Ed25519Signer, rsa_blob

PIN = "sha256:" + "1" * 64


def _keyed(count: int, host_keys: int = 1) -> KeyedPolicy:
    host = Host("login.example.org", keys=(parse_public_key(rsa_blob()),) * host_keys)
    key = parse_public_key(Ed25519Signer(1).blob)
    entries = {f"e{i}": Entry(f"e{i}", KeySource("ssh-agent"), "pilot", (host,), ("fact",)) for i in range(count)}
    handles = {name: Handle(name, SUBMIT, entry, key) for name, entry in entries.items()}
    factory = Factory("fact", "relay.example.org", 8620, (PIN,))
    return KeyedPolicy(Policy("policy.json", "", {"fact": factory}, entries, {}), handles)


def test_offer_that_would_not_fit_into_a_frame_is_cut_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certified = Certified(tmp_path, KeyRing(tmp_path))
    items = offer_items(_keyed(400, 40), "fact", certified, 0.0)
    body = Offer(1, items).body()
    assert len(body) <= MAX_OFFER_BODY
    encode(Offer.TYPE, 1, body)
    assert 0 < len(items) < 400
    assert [item.handle for item in items] == [f"e{i}" for i in range(len(items))]
    assert f"left out: e{len(items)} (submit)" in caplog.text


def test_a_thousand_handles_fit_and_no_more_than_a_relay_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certified = Certified(tmp_path, KeyRing(tmp_path))
    assert len(offer_items(_keyed(1000, 3), "fact", certified, 0.0)) == 1000
    assert not caplog.text
    items = offer_items(_keyed(MAX_OFFERED + 1), "fact", certified, 0.0)
    assert len(items) == MAX_OFFERED
    assert f"left out: e{MAX_OFFERED} (submit)" in caplog.text
    parsed = parse(Offer.TYPE, 1, Offer(1, items).body())
    assert isinstance(parsed, Offer)
    assert len(parsed.items) == MAX_OFFERED
    with pytest.raises(WireError, match=f"{MAX_OFFERED + 1} handles"):
        parse(Offer.TYPE, 1, Offer(1, (*items, items[0])).body())


def test_other_factories_handles_are_not_offered(tmp_path: Path) -> None:
    assert offer_items(_keyed(3), "other", Certified(tmp_path, KeyRing(tmp_path)), 0.0) == ()
