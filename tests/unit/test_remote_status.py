# SPDX-License-Identifier: Apache-2.0
"""Status says what is, and says so where it does not know."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.cli import remote_status
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.cli.relay_keys import credential_text
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.cli.status_table import age, print_status
from glideinwms_bosco.errors import BundleError, ScheddError
from glideinwms_bosco.remote.history import Event, History
from glideinwms_bosco.remote.pilots import (
    MAX_HOLD_REASONS,
    HoldReason,
    Pilots,
    account_place,
    count_pilots,
    parse_grid_resource,
)
from tests.unit.site_text import changed_site, use_host_folders, write_site
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd
from tests.unit.test_fleet import loopback_sites
from tests.unit.test_remote_deploy import make_bundle

__all__ = ["loopback_sshd"]

OK, REMOTE = 0, 3
Capture = pytest.CaptureFixture[str]
BUNDLE = make_bundle({"bin/blahpd": (b"#!/bin/sh\n", 0o755)})


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folders of an installed host; no schedd, and one bundle for all sites."""

    def no_schedd() -> list[dict[str, Any]]:
        raise ScheddError("the collector cannot be asked for schedds: it is down")

    def bundle(*_: Any) -> tuple[Bundle, None]:
        return BUNDLE, None

    monkeypatch.setattr(remote_status, "query_pilots", no_schedd)
    for name in ("get", "get_for"):
        monkeypatch.setattr(SiteBundles, name, bundle)
    monkeypatch.setattr(SiteBundles, "depends_on_machine", lambda *_: False)
    folder = tmp_path / "host"
    folder.mkdir()
    yield use_host_folders(folder, monkeypatch)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("batch slurm pilot@login", ("pilot", "login", 22, "bosco")),
        (
            "batch slurm --rgahp-key /k --rgahp-nopass --rgahp-glite ~/b/c/glite u@H.org:2222",
            ("u", "h.org", 2222, "b/c"),
        ),
        ("batch slurm u@h --rgahp-nokey --rgahp-glite ~/bosco-x/glite", ("u", "h", 22, "bosco-x")),
        ("batch pbs --rgahp-key /keys/a@b u@h", ("u", "h", 22, "bosco")),
        ("batch condor u@h -t 5", ("u", "h", 22, "bosco")),
        ("batch slurm", None),
        ("condor schedd.example.org pool.example.org", None),
        ("", None),
    ],
)
def test_grid_resource_names_the_account(text: str, place: Any) -> None:
    assert parse_grid_resource(text) == place


def ad(status: int, resource: str = "batch slurm pilot@login.example.org", **more: Any) -> dict[str, Any]:
    return {"GridResource": resource, "JobStatus": status, "EnteredCurrentStatus": 100, **more}


def test_pilots_are_counted_by_account(tmp_path: Path) -> None:
    site = changed_site(tmp_path)
    place = account_place(site, site.accounts[0])
    other = "batch slurm --rgahp-glite ~/other/glite pilot@login.example.org"
    ads = [ad(2), ad(6), ad(1), ad(5, HoldReason="x"), ad(3), ad(99), ad(2, other), {"JobStatus": 2}]
    counts = count_pilots(ads)
    assert counts[place] == Pilots(2, 1, 1, 2, (HoldReason("x", 1, 100),))
    assert counts["pilot", "login.example.org", 22, "other"] == Pilots(running=1)
    assert len(counts) == 2


def test_last_hold_reasons_come_first_and_equal_ones_once() -> None:
    ads = [ad(5, HoldReason=f"reason\n{number % 5}", EnteredCurrentStatus=number) for number in range(10)]
    (pilots,) = count_pilots(ads).values()
    assert pilots.held == 10
    assert pilots.hold_reasons == (
        HoldReason("reason 4", 2, 9),
        HoldReason("reason 3", 2, 8),
        HoldReason("reason 2", 2, 7),
    )
    assert len(pilots.hold_reasons) == MAX_HOLD_REASONS


@pytest.mark.parametrize(
    ("credential", "text"), [("broker", "broker: not configured"), ("key_pair", "key_pair: no expiry known")]
)
def test_credential_is_named(credential: str, text: str, tmp_path: Path) -> None:
    site = changed_site(tmp_path, "credential: broker", f"credential: {credential}")
    assert credential_text(site, site.accounts[0]) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (0, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_age_has_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_without_connecting_nothing_is_asked_and_history_is_shown(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_site(host / "sites.d", "Test_Entry", "Test_a", "a")
    path = write_site(host / "sites.d", "Test_Entry", "Test_b", "b")
    path.write_text(path.read_text().replace("login.example.org", "b.example.org"))
    history = History(host / "state")
    history.record("a", "pilot", Event("deploy", time.time() - 7300, True, "installed"))
    history.record("a", "pilot", Event("test", time.time() - 30 * 60, False, "1 failed: held"))
    assert main(["remote", "status", "--no-connect"]) == OK
    lines = rows(capsys.readouterr().out)
    assert lines[0][:7] == ["ACCOUNT", "REACHABLE", "BUNDLE", "DRIFT", "DEPLOY", "PROBE", "TEST"]
    assert lines[1][:4] == ["a:pilot", "not", "asked", "?"]
    assert " ".join(lines[1][4:]) == "? ok 2 h - FAILED 30 min ? ? ? broker: not configured"
    assert " ".join(lines[2][4:9]) == "? - - - ?"
    assert " ".join(lines[3]) == "no pilots are shown: the collector cannot be asked for schedds: it is down"


def test_pilots_and_hold_reasons_are_shown(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_site(host / "sites.d")
    ads = [ad(2), ad(1), ad(5, HoldReason="disk \x1b[2J full", EnteredCurrentStatus=int(time.time()) - 120)]
    monkeypatch.setattr(remote_status, "query_pilots", lambda: ads)
    assert main(["remote", "status", "--no-connect"]) == OK
    out = capsys.readouterr().out
    assert " ".join(rows(out)[1]).endswith("- - - 1 1 1 broker: not configured")
    assert "test:pilot: 1 pilot held, last 2 min ago: disk ?[2J full\n" in out
    assert main(["remote", "status", "test", "--no-connect", "--json"]) == OK
    pilots = json.loads(capsys.readouterr().out)["pilots"]
    assert (pilots["running"], pilots["idle"], pilots["held"]) == (1, 1, 1)
    assert pilots["hold_reasons"][0]["count"] == 1


def test_bundle_and_drift_of_real_accounts(
    host: Path, loopback_sshd: LoopbackSshd, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback_sites(host, loopback_sshd, 4)
    loopback_sites(host, loopback_sshd, 1, "down", host="localhost", port=1)
    links = {"up0": f"versions/{BUNDLE.digest}", "up1": f"versions/{'0' * 64}", "up2": "elsewhere"}
    for name, target in links.items():
        (loopback_sshd.home / name).mkdir()
        (loopback_sshd.home / name / "glite").symlink_to(target)
    assert main(["remote", "status", "--key", str(loopback_sshd.key_file)]) == REMOTE
    out = capsys.readouterr().out
    shown = {row[0]: row[1:] for row in rows(out)}
    assert shown["up0:me"][:3] == ["yes", BUNDLE.digest[:12], "no"]
    assert shown["up1:me"][:3] == ["yes", "0" * 12, "yes"]
    assert shown["up2:me"][:4] == ["yes", "not", "ours", "yes"]
    assert shown["up3:me"][:3] == ["yes", "none", "yes"]
    assert shown["down0:me"][:3] == ["no", "?", "?"]
    assert "down0:me: not reachable: site down0: " in out
    assert out.splitlines()[-1].startswith("5 targets: 4 ok, 1 failed")
    assert loopback_sshd.log.read_text().count("Accepted publickey") == 4


def test_bundle_that_cannot_be_built_leaves_drift_unknown(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_bundle(*_: Any) -> Bundle:
        raise BundleError("no HTCondor there")

    monkeypatch.setattr(SiteBundles, "get", no_bundle)
    write_site(host / "sites.d")
    assert main(["remote", "status", "test", "--no-connect"]) == OK
    assert "drift is not known: no HTCondor there" in capsys.readouterr().out


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_narrow_terminal_cuts_no_name_short(monkeypatch: pytest.MonkeyPatch, capsys: Capture, term: str) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "40")
    print_status([("a-long-name-of-a-site:an-account", None, "no answer")])
    out = capsys.readouterr().out
    assert "a-long-name-of-a-site:an-account  -" in out
    assert "CREDENTIAL" in out


@pytest.mark.parametrize("words", [("--no-connect",), ()])
def test_only_what_is_wrong_is_red(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, words: tuple[str, ...]
) -> None:
    """Neither what nobody asked for nor an account whose name begins with `no`."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    # Nobody listens there.
    text = write_site(host / "sites.d").read_text().replace("host: login.example.org", "host: 127.0.0.1\n  port: 1")
    for name in ("nordic", "normal"):
        named = text.replace("Test_Entry", f"Test_{name}").replace("T3_XX_Test", f"T3_XX_{name}")
        (host / "sites.d" / f"{name}.yaml").write_text(named)
    (host / "sites.d" / "test.yaml").unlink()
    main(["remote", "status", *words])
    shown = capsys.readouterr().out
    assert "nordic:pilot" in shown
    red = set(re.findall("\x1b\\[1;31m([^\x1b]*)", shown))
    assert {cell.strip() for cell in red} == (set() if words else {"no"})


def test_status_is_no_event_of_the_history(host: Path) -> None:
    write_site(host / "sites.d")
    main(["remote", "status", "--no-connect"])
    assert not (host / "state" / "history").exists()
