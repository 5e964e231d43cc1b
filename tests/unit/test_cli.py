# SPDX-License-Identifier: Apache-2.0
"""The command line: exit status, one line per error, nothing written that was not asked for."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.cli.main import build_parser, main
from tests.unit.site_text import HOST_KEY, write_site

OK, REFUSED, USAGE, REMOTE = range(4)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of an installed host, below a temporary one."""
    for variable, name in (("SITES", "sites.d"), ("CONFIG_D", "config.d"), ("STATE", "state")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"GWMS_BOSCO_{variable}", str(tmp_path / name))
    monkeypatch.delenv("GWMS_BOSCO_CONFIG", raising=False)
    return tmp_path


def add_site(host: Path, old: str = "", new: str = "", name: str = "test") -> Path:
    return write_site(host / "sites.d", old, new, name)


def test_check_of_all_sites(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host)
    assert main(["site", "check"]) == OK
    assert capsys.readouterr().out == "ok: 1 site file, 1 entry, 0 warnings\n"


def test_check_names_every_problem_on_stderr(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = add_site(host, "cpus: 8", "cpus: x")
    assert main(["site", "check", str(path)]) == REFUSED
    output = capsys.readouterr()
    assert output.err.startswith(f"{path}:14: error: entries[0].cpus: must be a whole number")
    assert output.out == "refused: 1 error, 0 warnings in 1 site file\n"


def test_check_finds_what_only_the_batch_system_knows(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host, "system: slurm", "system: condor\n  project: m1")
    assert main(["site", "check", "test", "--json"]) == REFUSED
    report = json.loads(capsys.readouterr().out)
    assert [problem["field"] for problem in report["problems"]] == ["batch.project"]


def test_check_finds_a_host_key_that_is_none(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host, HOST_KEY, HOST_KEY.replace("ssh-ed25519", "ssh-rsa"))
    assert main(["site", "check"]) == REFUSED
    assert "login.host_keys[0]" in capsys.readouterr().err


def test_check_finds_a_blah_setting_that_the_bundle_refuses(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host, "system: slurm", "system: slurm\n  settings: {slurm_binpath: /x}")
    assert main(["site", "check"]) == REFUSED
    assert ":11: error: batch.settings: " in capsys.readouterr().err


def test_check_touches_nothing(host: Path) -> None:
    add_site(host)
    before = sorted(str(path) for path in host.rglob("*"))
    assert main(["site", "check"]) == OK
    assert sorted(str(path) for path in host.rglob("*")) == before


def test_unknown_site_is_a_usage_error(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host)
    assert main(["site", "check", "tset"]) == USAGE
    assert "known sites: test" in capsys.readouterr().err


def test_no_site_at_all_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "check"]) == USAGE
    assert "no site file" in capsys.readouterr().err


def test_render_writes_one_file_per_site_and_twice_the_same(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host)
    assert main(["entry", "render"]) == OK
    path = host / "config.d" / "50-test.xml"
    first = path.read_bytes()
    assert main(["entry", "render"]) == OK
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["50-test.xml"]
    assert capsys.readouterr().out == f"written: {path} (1 entry)\nunchanged: {path} (1 entry)\n"


def test_render_of_one_bad_site_writes_none(host: Path) -> None:
    add_site(host)
    write_site(host / "sites.d", "Test_Entry", "a/b", "other")
    assert main(["entry", "render"]) == REFUSED
    assert list((host / "config.d").iterdir()) == []


def test_render_dry_run_and_stdout_write_nothing(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host)
    assert main(["entry", "render", "--dry-run"]) == OK
    assert "would write" in capsys.readouterr().out
    assert main(["entry", "render", "--stdout"]) == OK
    assert etree.fromstring(capsys.readouterr().out.encode()).tag == "glidein"
    assert list((host / "config.d").iterdir()) == []


def test_render_follows_the_order_of_the_settings(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_site(host)
    (host / "gwms-bosco.yaml").write_text("order: 7\n")
    monkeypatch.setenv("GWMS_BOSCO_CONFIG", str(host / "gwms-bosco.yaml"))
    assert main(["entry", "render"]) == OK
    assert [path.name for path in (host / "config.d").iterdir()] == ["07-test.xml"]


@pytest.mark.parametrize(("text", "words"), [("ordr: 7", "unknown field"), ("order: [", "not valid YAML")])
def test_bad_settings_are_named(
    text: str, words: str, host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = host / "gwms-bosco.yaml"
    path.write_text(text)
    monkeypatch.setenv("GWMS_BOSCO_CONFIG", str(path))
    assert main(["site", "check"]) == USAGE
    error = capsys.readouterr().err
    assert error.startswith(f"{path}:1: error: ")
    assert words in error


def test_missing_settings_file_is_named(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GWMS_BOSCO_CONFIG", str(host / "none.yaml"))
    assert main(["site", "check"]) == USAGE
    assert "none.yaml" in capsys.readouterr().err


def test_ssh_configuration_is_written_once(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host)
    assert main(["remote", "ssh-config"]) == OK
    assert main(["remote", "ssh-config"]) == OK
    output = capsys.readouterr().out
    assert output.startswith("written: ")
    assert "\nunchanged: " in output
    assert f"login.example.org {HOST_KEY}" in (host / "state" / "ssh" / "known_hosts").read_text()
    assert "ExitOnForwardFailure yes" in (host / "state" / "ssh" / "config").read_text()


def test_several_accounts_need_one_named(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host, "batch:", "  - user: pilot2\n    credential: broker\nbatch:")
    assert main(["remote", "deploy", "test"]) == USAGE
    assert "test:pilot, test:pilot2" in capsys.readouterr().err
    assert main(["remote", "deploy", "test:pilot3"]) != OK
    assert "its accounts are: pilot, pilot2" in capsys.readouterr().err


def test_missing_key_file_is_a_usage_error(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_site(host)
    assert main(["remote", "deploy", "test", "--key", "/nonexistent"]) == USAGE
    assert "--key /nonexistent: no such file" in capsys.readouterr().err


def test_test_without_the_pinned_keys_in_ssh_says_how_to_get_them(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_site(host)
    assert main(["remote", "test", "test"]) == REMOTE
    error = capsys.readouterr().err
    assert "does not use the pinned host keys" in error
    assert f"Include {host}/state/ssh/config" in error


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "schema"]) == OK
    assert "entries" in json.loads(capsys.readouterr().out)["properties"]


def test_sigpipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m glideinwms_bosco.cli.main site schema | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)
    assert done.stderr == ""


def test_every_command_has_help_with_an_example() -> None:
    shown = 0
    for noun, verbs in _commands(build_parser()).items():
        for verb, command in _commands(verbs).items():
            assert f"example: gwms-bosco {noun} {verb}" in command.format_help()
            shown += 1
    assert shown >= 8


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The sub-commands of a parser; argparse has no public way to ask for them."""
    (found,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def test_field_reference_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/site-file.md ends with the table that `gwms-bosco site fields` prints."""
    assert main(["site", "fields"]) == OK
    table = capsys.readouterr().out
    assert "| `login.jump_hosts[].host` (required) |" in table
    assert (ROOT / "docs" / "site-file.md").read_text(encoding="utf-8").endswith(table)


def test_shipped_example_lacks_nothing_but_its_host_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (ROOT / "factory_configs" / "sites").glob("*.yaml"):
        main(["site", "check", str(path), "--json"])
        problems = json.loads(capsys.readouterr().out)["problems"]
        errors = [problem for problem in problems if problem["severity"] == "error"]
        assert [problem["field"] for problem in errors] == ["login.host_keys"]
        assert "gwms-bosco site hostkeys" in errors[0]["hint"]
