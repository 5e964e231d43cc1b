# SPDX-License-Identifier: Apache-2.0
"""An entry as reconfig sees it: which file wins, and what the defaults add."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glideinwms_bosco.cli.main import main
from tests.unit.site_text import use_host_folders, write_site

OK, REFUSED, USAGE = range(3)


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_host_folders(tmp_path, monkeypatch)
    write_site(tmp_path / "sites.d")
    assert main(["entry", "render"]) == OK
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert main(["entry", "show", *args]) == OK
    return capsys.readouterr().out


def test_merged_entry_has_its_own_values_and_marked_defaults(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in shown(capsys, "Test_Entry", "--merged").splitlines()]
    assert ["#", "from", f"{host}/config.d/50-test.xml:5"] in lines
    assert ["@gatekeeper", "pilot@login.example.org"] in lines
    assert ["@verbosity", "std", "(default)"] in lines
    assert ["config/max_jobs/per_entry/@glideins", "10000", "(default)"] in lines
    assert ["attrs/[GLIDEIN_CPUS]/@value", "8"] in lines


def test_later_file_wins_and_the_loser_is_named(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = host / "config.d" / "90-hand.xml"
    later.write_text("<glidein><entries>\n<entry name='Test_Entry' gatekeeper='hand@made'/></entries></glidein>")
    report = json.loads(shown(capsys, "Test_Entry", "--json"))
    assert report["from"] == f"{later}:2"
    assert report["replaces"] == [f"{host}/config.d/50-test.xml:5"]
    assert report["values"]["@gatekeeper"] == {"value": "hand@made", "default": False}
    assert not any(path.startswith("attrs/") for path in report["values"])


def test_main_file_beside_config_d_is_read_first(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "glideinWMS.xml").write_text(
        "<glidein factory_name='f'><entries><entry name='Main' gatekeeper='g' gridtype='condor' auth_method='x'/>"
        "</entries></glidein>"
    )
    assert "from" in shown(capsys, "Main")
    assert "# from" in shown(capsys, "Test_Entry")


def test_unknown_entry_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entry", "show", "Nosuch"]) == USAGE
    assert "has no entry 'Nosuch'" in capsys.readouterr().err


def test_broken_file_is_named(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "config.d" / "60-x.xml").write_text("<glidein>\n<entries>")
    assert main(["entry", "show", "Test_Entry"]) == REFUSED
    assert "60-x.xml:" in capsys.readouterr().err
