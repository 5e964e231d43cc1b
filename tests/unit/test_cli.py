# SPDX-License-Identifier: Apache-2.0
"""The command line: exit status, one line per error, nothing written that was not asked for."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.cli.main import build_parser, main
from tests.unit.site_text import HOST_KEY, use_host_folders, write_site

OK, REFUSED, USAGE, REMOTE = range(4)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of an installed host, below a temporary one."""
    return use_host_folders(tmp_path, monkeypatch)


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


@pytest.mark.parametrize("words", [("entry", "import"), ("entry", "lint"), ("siteconf", "check")], ids=" ".join)
def test_path_that_is_not_there_is_a_usage_error(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "/nonexistent/file"]) == USAGE
    assert "/nonexistent/file: there is no such" in capsys.readouterr().err


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
    assert "/nonexistent" in capsys.readouterr().err


def test_test_without_the_pinned_keys_in_ssh_says_how_to_get_them(
    host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    add_site(host)
    main(["remote", "ssh-config"])
    assert main(["remote", "test", "test", "--key", str(key)]) == REMOTE
    error = capsys.readouterr().err
    assert "does not use the pinned host keys" in error
    assert f"Include {host}/state/ssh/config" in error


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "schema"]) == OK
    assert "entries" in json.loads(capsys.readouterr().out)["properties"]


def run(command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a shell of its own; `{}` stands for gwms-bosco."""
    text = command.replace("{}", f"{sys.executable} -m glideinwms_bosco.cli.main")
    env = {**os.environ, **changes}
    return subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, check=False, cwd=ROOT, timeout=30, env=env
    )


# command -> exit status and words on stderr; none may show a traceback or more than one line
ODD_CALLS = {
    "{} site schema >&-": (OK, ""),
    "{} site schema <&- 2>&-": (OK, ""),
    "{} site schema >/dev/full": (REFUSED, "No space left on device"),
    f"{{}} site check {'1' * 300}": (USAGE, "no site"),
    "{} site check /root/none/x.yaml/y": (REFUSED, "cannot be read"),
    "{} entry render test --output /proc/none --dry-run": (REFUSED, "/proc/none: cannot be read"),
    "{} entry render test --output /proc/none": (REFUSED, "/proc/none: cannot be read"),
    "{} entry render test --output /proc": (REFUSED, "cannot be written"),
    "{} remote deploy test --key ~nosuchuser/x": (USAGE, "home directory"),
    "{} remote deploy test --key /tmp": (USAGE, "/tmp"),
    "{} remote test test": (USAGE, "--key is missing"),
    "{} remote test test --jobs 0": (USAGE, "--jobs 0 is out of range"),
    "{} remote test test --timeout -5": (USAGE, "--timeout -5 is out of range"),
    "{} remote test test --run-s 99999": (USAGE, "out of range"),
    "{} site hostkeys localhost --port 99999": (USAGE, "no TCP port"),
    "{} entry show Test_Entry": (USAGE, "`gwms-bosco entry render` writes entries"),
}


@pytest.mark.parametrize("command", ODD_CALLS)
def test_odd_call_gives_one_line_and_its_status(command: str, host: Path) -> None:
    add_site(host)
    status, words = ODD_CALLS[command]
    done = run(command)
    assert done.returncode == status, done
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == (1 if words else 0)


def test_relative_state_folder_is_refused(host: Path) -> None:
    add_site(host)
    done = run("{} remote ssh-config", GWMS_BOSCO_STATE="rel")
    assert done.returncode == USAGE
    assert "GWMS_BOSCO_STATE=rel is not an absolute path" in done.stderr


def test_our_own_mistake_is_one_line_too(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_site(host)

    def broken(*_args: object) -> None:
        raise TypeError("x is not y")

    monkeypatch.setattr("glideinwms_bosco.cli.entry.select_sites", broken)
    assert main(["entry", "render"]) == REFUSED
    assert capsys.readouterr().err.startswith("gwms-bosco: error: internal error: TypeError: x is not y; ")


def test_text_of_others_cannot_move_the_cursor(host: Path) -> None:
    done = run("{} site check \"$(printf 'a\\033[31mb')\"")
    assert done.returncode == USAGE
    assert "\x1b" not in done.stderr
    assert host.exists()


def test_named_site_is_checked_beside_the_others(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rendered one by one, the later of two entries of one name would silently replace the earlier."""
    other, path = add_site(host, name="other"), add_site(host)
    assert main(["entry", "render", "test"]) == REFUSED
    assert f"{path}:13: error: entries[0].name: " in capsys.readouterr().err
    assert main(["site", "check", "test", "--json"]) == REFUSED
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert f"also stands at {other}:13" in problem["message"]


def test_broken_site_beside_a_named_one_does_no_harm(host: Path) -> None:
    add_site(host)
    add_site(host, "cpus: 8", "cpus: x", "broken")
    assert main(["site", "check", "test"]) == OK


def test_two_ways_to_one_host_are_reported_with_both_files(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = add_site(host, name="other")
    path = add_site(host, "host: login.example.org", "host: login.example.org\n  port: 22")
    text = path.read_text().replace("Test_Entry", "Other_Entry").replace(HOST_KEY, f"{HOST_KEY[:-1]}L")
    path.write_text(text)
    assert main(["site", "check", "test"]) == REFUSED
    error = capsys.readouterr().err
    assert error.startswith(f"{path}:3: error: login: ")
    assert f"(the other is in {other}:3)" in error


def test_path_of_a_site_file_may_have_a_colon(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = host / "a:b"
    folder.mkdir()
    path = write_site(folder)
    for argument in (str(path), f"{path}:pilot"):
        assert main(["remote", "deploy", argument, "--key", "/nonexistent"]) == USAGE
        assert "/nonexistent" in capsys.readouterr().err


def test_stale_pinned_keys_are_noticed_before_a_job_waits(
    host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    path = add_site(host)
    main(["remote", "ssh-config"])
    path.write_text(path.read_text().replace(HOST_KEY, f"{HOST_KEY[:-1]}L"))
    capsys.readouterr()
    assert main(["remote", "test", "test", "--key", str(key)]) == REMOTE
    assert "differs from the site file; run `gwms-bosco remote ssh-config`" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("argv", "key", "one"),
    [
        (("site", "fields"), "path", "login.jump_hosts[].host"),
        (("entry", "lint", "--codes"), "code", "BOSCO-ENTRY-01"),
        (("remote", "probe", "--codes"), "code", "BOSCO-PROBE-01"),
        (("siteconf", "check", "--codes"), "code", "BOSCO-SITECONF-01"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_reference_lists_are_there_as_json(
    argv: tuple[str, ...], key: str, one: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(argv)) == OK
    page = capsys.readouterr().out
    assert main([*argv, "--json"]) == OK
    rows = json.loads(capsys.readouterr().out)
    assert one in [row[key] for row in rows]
    # The page has its head besides.
    assert len(rows) == len([line for line in page.splitlines() if line.startswith("|")]) - 2


def test_wrong_call_names_the_help_that_has_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["site", "chek"])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("gwms-bosco site: error: ")
    assert last.endswith("; see: gwms-bosco site --help")


def test_unknown_option_names_the_help_of_its_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["site", "check", "--jsno"])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ("gwms-bosco site check: error: unrecognized arguments: --jsno; see: gwms-bosco site check --help")


def test_import_asks_for_a_file_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["entry", "import"])
    assert "required: FILE; see: " in capsys.readouterr().err


def test_full_disk_says_which_output_is_lost(host: Path) -> None:
    add_site(host)
    done = run("{} site check >/dev/full", PYTHONUNBUFFERED="")
    assert done.returncode == REFUSED
    assert done.stderr.splitlines()[-1] == "gwms-bosco: error: standard output: No space left on device"


@pytest.mark.parametrize("verb", ["site check", "entry render"])
def test_link_to_itself_beside_a_site_is_no_internal_error(
    verb: str, host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Path.resolve() raises RuntimeError for it."""
    add_site(host)
    (host / "sites.d" / "loop.yaml").symlink_to("loop.yaml")
    assert main(["site", "check", "test"]) == OK
    assert main(["web-proxy", "show", "--planned"]) == OK
    assert main(verb.split()) == REFUSED
    said = "".join(capsys.readouterr())
    assert "Too many levels of symbolic links; its links lead in a circle" in said
    assert "internal error" not in said


def test_render_without_a_site_file_says_so(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entry", "render"]) == OK
    assert capsys.readouterr().out == f"nothing to do: no site file (*.yaml) in {host / 'sites.d'}\n"


def test_last_line_is_an_error_whatever_other_files_are_warned_of(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_site(host, "cpus: 8", "cpus: x", "aa")
    add_site(host, "credential: broker", "credential: key_pair")
    assert main(["entry", "render"]) == REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert [": warning: " in line for line in lines] == [True, False]
    assert "aa.yaml:14: error: " in lines[-1]


def test_shipped_example_lacks_nothing_but_its_host_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (ROOT / "factory_configs" / "sites").glob("*.yaml"):
        main(["site", "check", str(path), "--json"])
        problems = json.loads(capsys.readouterr().out)["problems"]
        errors = [problem for problem in problems if problem["severity"] == "error"]
        assert [problem["field"] for problem in errors] == ["login.host_keys"]
        assert "gwms-bosco site hostkeys" in errors[0]["hint"]
