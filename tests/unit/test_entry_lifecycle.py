# SPDX-License-Identifier: Apache-2.0
"""Entries are disabled, drained and removed without ever vanishing under a reconfig's eyes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.entry.lifecycle import VERBS, State, next_state
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.state_file import load_states, locked
from glideinwms_bosco.errors import EntryError
from tests.unit.site_text import use_host_folders, write_site

OK, REFUSED, USAGE = range(3)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_host_folders(tmp_path, monkeypatch)
    write_site(tmp_path / "sites.d")
    write_site(tmp_path / "sites.d", "Test_Entry", "Other_Entry", "other")
    assert main(["entry", "render"]) == OK
    return tmp_path


def live(host: Path) -> dict[str, Meaning]:
    """All entries of config.d."""
    found: dict[str, Meaning] = {}
    for path in (host / "config.d").glob("*.xml"):
        found.update(entry_meanings(etree.fromstring(path.read_bytes())))
    return found


def test_disable_and_enable_show_in_config_d_and_come_back_to_the_same_bytes(host: Path) -> None:
    path = host / "config.d" / "50-test.xml"
    before = path.read_bytes()
    assert main(["entry", "disable", "Test_Entry"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "False"
    assert live(host)["Other_Entry"]["@enabled"] == "True"
    assert main(["entry", "enable", "Test_Entry"]) == OK
    assert path.read_bytes() == before


def test_state_outlives_a_render(host: Path) -> None:
    main(["entry", "disable", "Test_Entry"])
    assert main(["entry", "render"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "False"


def test_drain_forbids_new_pilots_and_keeps_the_entry_enabled(host: Path) -> None:
    assert main(["entry", "drain", "Test_Entry"]) == OK
    entry = live(host)["Test_Entry"]
    assert entry["@enabled"] == "True"
    for block in ("per_entry", "default_per_frontend"):
        assert entry[f"config/max_jobs/{block}/@glideins"] == "0"
        assert entry[f"config/max_jobs/{block}/@idle"] == "0"


def test_removal_takes_two_steps(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entry", "remove", "Test_Entry"]) == OK
    said = capsys.readouterr().out
    assert "next: reconfigure the factory, then `gwms-bosco entry remove Test_Entry --reconfigured`" in said
    assert live(host)["Test_Entry"]["@enabled"] == "False"
    assert main(["entry", "remove", "Test_Entry"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "False"
    assert main(["entry", "remove", "Test_Entry", "--reconfigured"]) == OK
    assert "Test_Entry" not in live(host)
    assert main(["entry", "render"]) == OK
    assert "Test_Entry" not in live(host)


def test_removed_entry_of_a_site_file_is_named_at_every_render(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["entry", "remove", "Test_Entry"])
    main(["entry", "remove", "Test_Entry", "--reconfigured"])
    capsys.readouterr()
    assert main(["entry", "render"]) == OK
    assert "left out: Test_Entry was removed; `gwms-bosco entry enable Test_Entry`" in capsys.readouterr().out
    assert main(["entry", "enable", "Test_Entry"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "True"


def test_removal_is_forgotten_when_the_entry_has_left_its_site_file_too(host: Path) -> None:
    main(["entry", "remove", "Test_Entry"])
    main(["entry", "remove", "Test_Entry", "--reconfigured"])
    (host / "sites.d" / "test.yaml").unlink()
    assert main(["entry", "render"]) == OK
    assert load_states(host / "state") == {}
    assert sorted(live(host)) == ["Other_Entry"]
    write_site(host / "sites.d")
    assert main(["entry", "render"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "True"


def test_second_step_of_a_removal_needs_the_first(host: Path) -> None:
    assert main(["entry", "remove", "Test_Entry", "--reconfigured"]) == REFUSED
    assert live(host)["Test_Entry"]["@enabled"] == "True"


def test_entry_that_left_its_site_file_stays_as_a_disabled_copy(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_site(host / "sites.d", "Test_Entry", "New_Entry")
    assert main(["entry", "render"]) == OK
    assert "kept disabled: Test_Entry has left its site file" in capsys.readouterr().out
    assert live(host)["Test_Entry"]["@enabled"] == "False"
    assert live(host)["New_Entry"]["@enabled"] == "True"
    assert main(["entry", "render"]) == OK
    assert "Test_Entry" in live(host)
    assert main(["entry", "remove", "Test_Entry", "--reconfigured"]) == OK
    assert sorted(live(host)) == ["New_Entry", "Other_Entry"]


def test_site_file_that_has_gone_disables_its_entries_and_no_others(host: Path) -> None:
    (host / "sites.d" / "test.yaml").unlink()
    assert main(["entry", "render"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "False"
    assert live(host)["Other_Entry"]["@enabled"] == "True"
    assert main(["entry", "remove", "Test_Entry", "--reconfigured"]) == OK
    assert sorted(live(host)) == ["Other_Entry"]
    assert [path.name for path in (host / "config.d").iterdir()] == ["50-other.xml"]


def test_entry_that_comes_back_is_as_before(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkout or an editor takes a site file away for a moment; a render comes just then."""
    path = host / "sites.d" / "test.yaml"
    before, text = live(host), path.read_text()
    path.unlink()
    assert main(["entry", "render"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "False"
    path.write_text(text)
    capsys.readouterr()
    assert main(["entry", "render"]) == OK
    assert live(host) == before
    assert load_states(host / "state") == {}


def test_disabled_entry_that_comes_back_is_still_disabled(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["entry", "disable", "Test_Entry"])
    path = host / "sites.d" / "test.yaml"
    text = path.read_text()
    path.unlink()
    main(["entry", "render"])
    path.write_text(text)
    capsys.readouterr()
    assert main(["entry", "render"]) == OK
    assert "disabled: Test_Entry; `gwms-bosco entry enable Test_Entry` ends that" in capsys.readouterr().out
    assert live(host)["Test_Entry"]["@enabled"] == "False"


def test_entry_may_move_to_another_site_file(host: Path) -> None:
    write_site(host / "sites.d", "Test_Entry", "New_Entry")
    other = host / "sites.d" / "other.yaml"
    other.write_text(other.read_text() + "  - {name: Test_Entry, cpus: 1, walltime: 2h}\n")
    assert main(["entry", "render", "other"]) == OK
    assert main(["entry", "render", "test"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "True"
    assert main(["entry", "render"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "True"


def test_hand_written_file_of_that_name_is_never_overwritten(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = host / "config.d" / "50-test.xml"
    hand = "<glidein><entries><entry name='HAND' gatekeeper='u@h'/></entries></glidein>"
    path.write_text(hand)
    for command in (["entry", "render"], ["entry", "render", "--dry-run"], ["entry", "diff"]):
        assert main(command) == REFUSED
        assert f"{path} was not written by gwms-bosco" in capsys.readouterr().err
    assert path.read_text() == hand


def test_copy_of_our_file_under_another_name_is_not_ours(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (host / "config.d" / "50-test.xml").read_text()
    (host / "config.d" / "90-my.xml").write_text(text.replace("Test_Entry", "HAND"))
    (host / "config.d" / "95-over.xml").write_text(text)
    before = {path.name: path.read_bytes() for path in (host / "config.d").iterdir()}
    capsys.readouterr()
    assert main(["entry", "render"]) == OK
    assert {path.name: path.read_bytes() for path in (host / "config.d").iterdir()} == before
    assert "warning: Test_Entry is replaced by " in capsys.readouterr().out


def test_second_step_is_refused_while_the_live_entry_is_enabled(host: Path) -> None:
    """The first step was killed between the state and the file."""
    text = '{"format": 1, "entries": {"Test_Entry": {"state": "removing", "since": "x", "by": "y"}}}'
    (host / "state" / "entries.json").write_text(text)
    assert main(["entry", "remove", "Test_Entry", "--reconfigured"]) == REFUSED
    assert live(host)["Test_Entry"]["@enabled"] == "True"
    assert main(["entry", "remove", "Test_Entry"]) == OK
    assert main(["entry", "remove", "Test_Entry", "--reconfigured"]) == OK
    assert "Test_Entry" not in live(host)


def test_last_site_file_that_goes_needs_a_word(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (host / "sites.d").iterdir():
        path.unlink()
    assert main(["entry", "render"]) == REFUSED
    assert "--all-gone" in capsys.readouterr().err
    assert {entry["@enabled"] for entry in live(host).values()} == {"True"}
    assert main(["entry", "render", "--all-gone"]) == OK
    assert {entry["@enabled"] for entry in live(host).values()} == {"False"}
    for name in ("Test_Entry", "Other_Entry"):
        assert main(["entry", "remove", name, "--reconfigured"]) == OK
    assert list((host / "config.d").iterdir()) == []
    assert main(["entry", "render"]) == OK


def test_lock_of_an_editor_in_the_sites_folder_is_no_site(host: Path) -> None:
    (host / "sites.d" / ".#test.yaml").symlink_to("nobody@nowhere.123")
    assert main(["entry", "render"]) == OK


def test_site_file_of_another_name_takes_the_old_file_with_it(host: Path) -> None:
    (host / "sites.d" / "test.yaml").rename(host / "sites.d" / "alpha.yaml")
    assert main(["entry", "render", "alpha"]) == OK
    assert sorted(path.name for path in (host / "config.d").iterdir()) == ["50-alpha.xml", "50-other.xml"]


def test_site_files_are_read_under_the_lock(host: Path) -> None:
    """A render that waited for another one must not write what it had read before."""
    with locked(host / "state", "test"):
        waiting = subprocess.Popen([sys.executable, "-m", "glideinwms_bosco.cli.main", "entry", "render"], cwd=ROOT)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
        write_site(host / "sites.d", "cpus: 8", "cpus: 16")
    assert waiting.wait(30) == OK
    assert live(host)["Test_Entry"]["attrs/[GLIDEIN_CPUS]/@value"] == "16"


def test_diff_is_what_render_does(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "sites.d" / "test.yaml").unlink()
    assert main(["entry", "diff"]) == OK
    assert "changed: Test_Entry\n  enabled: 'True' -> 'False'\n" in capsys.readouterr().out


def test_enable_of_an_entry_without_site_file_is_refused(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "sites.d" / "test.yaml").unlink()
    main(["entry", "render"])
    assert main(["entry", "enable", "Test_Entry"]) == REFUSED
    assert "has left its site file" in capsys.readouterr().err


def test_render_of_one_site_leaves_the_files_of_others_alone(host: Path) -> None:
    (host / "sites.d" / "test.yaml").unlink()
    assert main(["entry", "render", "other"]) == OK
    assert live(host)["Test_Entry"]["@enabled"] == "True"


def test_files_of_others_in_config_d_are_never_touched(host: Path) -> None:
    foreign = host / "config.d" / "10-site.xml"
    foreign.write_text("<glidein><entries><entry name='Hand_Made'/></entries></glidein>")
    (host / "sites.d" / "test.yaml").unlink()
    assert main(["entry", "render"]) == OK
    assert "Hand_Made" in foreign.read_text()


def test_changed_order_moves_the_file(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "gwms-bosco.yaml").write_text("order: 7\n")
    monkeypatch.setenv("GWMS_BOSCO_CONFIG", str(host / "gwms-bosco.yaml"))
    assert main(["entry", "render"]) == OK
    assert sorted(path.name for path in (host / "config.d").iterdir()) == ["07-other.xml", "07-test.xml"]


def test_damaged_live_file_is_written_anew(host: Path) -> None:
    path = host / "config.d" / "50-test.xml"
    before = path.read_bytes()
    path.write_bytes(before[:-40])
    assert main(["entry", "render"]) == OK
    assert path.read_bytes() == before


def test_unknown_entry_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entry", "disable", "Nosuch"]) == USAGE
    assert "no entry 'Nosuch'" in capsys.readouterr().err


def test_states_are_listed_with_who_and_when(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["entry", "drain", "Test_Entry"])
    capsys.readouterr()
    assert main(["entry", "states", "--json"]) == OK
    (row,) = json.loads(capsys.readouterr().out).values()
    assert row["state"] == "draining"
    assert row["since"].endswith("Z")
    assert load_states(host / "state")["Test_Entry"].by == row["by"]


def test_diff_tells_changes_in_words(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entry", "diff"]) == OK
    assert "no changes in 2 entries" in capsys.readouterr().out
    write_site(host / "sites.d", "cpus: 8", "cpus: 16")
    assert main(["entry", "diff"]) == OK
    assert "changed: Test_Entry\n  attribute GLIDEIN_CPUS: value '8' -> '16'\n" in capsys.readouterr().out


def test_second_command_is_told_who_holds_the_lock(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glideinwms_bosco.entry.state_file.LOCK_WAIT_S", 0.2)
    with locked(host / "state", "entry render"), pytest.raises(EntryError) as caught, locked(host / "state", "x"):
        pass
    assert "`gwms-bosco entry render` of " in caught.value.message
    assert f"process {os.getpid()}" in caught.value.message


def test_lock_of_a_killed_command_is_free(host: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from glideinwms_bosco.entry.state_file import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'x'):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(host / "state")], check=False, cwd=ROOT, timeout=30)
    assert main(["entry", "render"]) == OK


@pytest.mark.parametrize("text", ["{", '{"format": 2, "entries": {}}', '{"format": 1, "entries": {"a": {}}}', "[]"])
def test_damaged_state_file_is_named_and_nothing_written(
    text: str, host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (host / "state" / "entries.json").write_text(text)
    before = live(host)
    assert main(["entry", "disable", "Test_Entry"]) == REFUSED
    assert "entries.json" in capsys.readouterr().err
    assert live(host) == before


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", State)
def test_every_verb_has_an_answer_in_every_state(verb: str, state: State) -> None:
    for reconfigured in (False, True):
        try:
            found = next_state("e", verb, state, reconfigured=reconfigured, disabled=True)
            assert isinstance(found, State)
        except EntryError as err:
            assert err.hint
