# SPDX-License-Identifier: Apache-2.0
"""Help, man pages, completion and docs say the same, and what the docs tell people to type is a valid call."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.broker import paths as broker_paths
from glideinwms_bosco.cli import main as bosco
from glideinwms_bosco.cli import manual, settings, ssh_broker, ssh_relay
from glideinwms_bosco.cli.command_line import Command
from glideinwms_bosco.cli.manual_pages import EXIT_STATUSES, Program
from glideinwms_bosco.relay.conf import CONF_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PARSERS = {
    "gwms-bosco": bosco.build_parser,
    "gwms-ssh-broker": ssh_broker.build_parser,
    "gwms-ssh-relay": ssh_relay.build_parser,
}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def _programs() -> Iterator[tuple[Program, Command]]:
    for program in manual.programs():
        for command in program.command.walk():
            yield program, command


def _parser(command: Command) -> argparse.ArgumentParser:
    """The parser of a command, found by argparse alone."""
    parser = PARSERS[command.words[0]]()
    for word in command.words[1:]:
        (below,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parser = below.choices[word]
    return parser


VERBS = [command for _, command in _programs() if not command.commands]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.page)
def test_each_option_of_the_help_stands_in_manual_docs_and_completion(verb: Command) -> None:
    options = set(OPTION.findall(_parser(verb).format_help().partition("\nexample:")[0])) - {"--help"}
    page = "-".join(verb.words[:-1])
    section = "1" if verb.words[0] == "gwms-bosco" else "8"
    roff = manual.man_files()[f"{page}.{section}"].replace("\\-", "-")
    text = manual.markdown_files()[f"{page}.md"]
    script = manual.completion_files()[verb.words[0]]
    for option in options:
        assert option in _section(roff, f".SS {verb.name}\n", "\n.S"), option
        assert option in _section(text, f"## {verb.name}\n", "\n## "), option
        assert re.search(rf"words='[^']*{option}[ ']", script), option


def _section(text: str, head: str, end: str) -> str:
    return text.partition(head)[2].partition(end)[0]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.page)
def test_each_argument_is_explained_and_each_example_is_a_valid_call(verb: Command) -> None:
    assert verb.summary
    assert [argument.title for argument in verb.arguments if not argument.text] == []
    assert verb.example.startswith(verb.name)
    _parse(verb.example)


def _parse(line: str) -> None:
    """Parse a call as a shell and our program would.

    Raises:
        AssertionError: the program would end with status 2.
    """
    words = shlex.split(line.split(" > ")[0].split(" && ")[0].split(" | ")[0], comments=True)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            PARSERS[words[0]]().parse_args(words[1:])
    except SystemExit as ended:
        assert ended.code == 0, f"{line}\n{errors.getvalue()}"


def _documented_calls() -> Iterator[tuple[str, str]]:
    """Page and call, from the code blocks of every page that people follow."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))):
        text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
        in_fence = False
        for line in text.splitlines():
            if line.lstrip().startswith("```"):
                in_fence = not in_fence
            elif in_fence or line.startswith("    "):
                found = re.match(r"\s*(?:\$\([a-z]+ )?((?:gwms-bosco|gwms-ssh-broker|gwms-ssh-relay) .*)", line)
                # A drawing, and calls of which only the telling part is shown.
                if found and " ... " not in found[1] and not found[1].startswith("gwms-ssh-broker --("):
                    yield page.name, found[1]


def test_calls_in_the_pages_are_valid() -> None:
    calls = list(_documented_calls())
    for page, call in calls:
        try:
            _parse(call)
        except AssertionError as error:
            raise AssertionError(f"{page}: {error}") from None
    assert len(calls) > 20


def test_pages_of_commands_are_current() -> None:
    folder = DOCS / "commands"
    files = manual.markdown_files()
    assert sorted(path.name for path in folder.iterdir()) == sorted(files), "run `make commands`"
    for name, text in files.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{name} is old: run `make commands`"


def test_exit_statuses_stand_on_their_page() -> None:
    text = (DOCS / "exit-status.md").read_text(encoding="utf-8")
    for status, meaning in EXIT_STATUSES:
        assert f"| {status} | {meaning}" in text


def test_every_variable_that_names_a_folder_is_in_the_manual() -> None:
    bosco_page = manual.markdown_files()["gwms-bosco.md"]
    folders = {variable for variable, _ in settings._FOLDERS.values()} | {settings.FILE_VARIABLE}
    assert [variable for variable in folders if f"`{variable}`" not in bosco_page] == []
    broker_page = manual.markdown_files()["gwms-ssh-broker.md"]
    assert [variable for variable, _ in broker_paths._FOLDERS.values() if f"`{variable}`" not in broker_page] == []
    assert f"`{CONF_VARIABLE}`" in manual.markdown_files()["gwms-ssh-relay.md"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
@pytest.mark.parametrize("name", sorted(manual.man_files()))
def test_groff_has_no_complaint_about_a_man_page(name: str) -> None:
    text = manual.man_files()[name]
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    assert "EXIT STATUS" in done.stdout


def test_roff_shows_dots_dashes_and_quotes_as_they_are() -> None:
    shown = manual.man_files()["gwms-bosco-remote.1"]
    assert "\\-\\-retry\\-failed" in shown
    assert "\\(aqnersc*\\(aq" in shown
    assert not re.search(r"^\.(?!SH|SS|TP|TH|B |BR |PP|RS|RE|nf|fi|\\\")", shown, re.MULTILINE)


COMPLETIONS: tuple[tuple[str, set[str]], ...] = (
    ("gwms-bosco ", {"site", "entry", "remote"}),
    ("gwms-bosco si", {"site", "siteconf"}),
    ("gwms-bosco site ", {"check", "hostkeys", "schema", "fields"}),
    ("gwms-bosco site check ner", {"nersc"}),
    ("gwms-bosco site check --j", {"--json"}),
    ("gwms-bosco remote deploy --key ke", {"key_of_pilot"}),
    ("gwms-bosco remote deploy --key site nersc --dr", {"--dry-run"}),
    ("gwms-bosco remote deploy je", {"jewels"}),
    ("gwms-bosco remote probe --job-timeout ", set()),
    ("gwms-bosco entry lint --gwms-version ", {"3.10", "3.11"}),
    ("gwms-bosco entry render --output fo", {"folder"}),
    ("gwms-ssh-relay --conf status ha", {"handles"}),
    ("gwms-ssh-broker key op", {"open"}),
    ("gwms-ssh-broker stanza --frontend 3.1", {"3.10", "3.11"}),
)


@pytest.mark.parametrize(("line", "expected"), COMPLETIONS)
def test_bash_completes(line: str, expected: set[str], tmp_path: Path) -> None:
    for name in ("sites/nersc.yaml", "sites/jewels.yaml", "key_of_pilot", "folder/file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    program = line.split(" ", 1)[0]
    (tmp_path / "script").write_text(manual.completion_files()[program], encoding="utf-8")
    words = line.split(" ")
    code = '. ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "$FUNCTION"; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", code, "bash", *words],
        capture_output=True, text=True, check=True, cwd=tmp_path, timeout=30,
        env={"PATH": "/usr/bin:/bin", "GWMS_BOSCO_SITES": "sites", "FUNCTION": "_" + program.replace("-", "_")},
    )  # fmt: skip
    assert done.stderr == ""
    found = set(done.stdout.split())
    assert expected <= found if line.endswith(" ") and expected else expected == found


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck")
@pytest.mark.parametrize("name", sorted(manual.completion_files()))
def test_shellcheck_has_no_complaint_about_completion(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(manual.completion_files()[name], encoding="utf-8")
    done = subprocess.run(["shellcheck", tmp_path / name], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == ""


def test_writes_all_three_kinds_of_files(tmp_path: Path) -> None:
    folders = {name: tmp_path / "made" / name for name in ("man", "completion", "markdown")}
    assert manual.main([word for name, folder in folders.items() for word in (f"--{name}", str(folder))]) == 0
    assert (folders["man"] / "gwms-ssh-broker.8").is_file()
    assert (folders["completion"] / "gwms-bosco").is_file()
    assert (folders["markdown"] / "index.md").stat().st_mode & 0o777 == 0o644


def test_nothing_to_write_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert manual.main([]) == 2
    assert "--markdown DIR" in capsys.readouterr().err
