# SPDX-License-Identifier: Apache-2.0
"""Help, man pages, completion and docs say the same, and what the docs tell people to type is a valid call."""

from __future__ import annotations

import argparse
import configparser
import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.broker import paths as broker_paths
from glideinwms_bosco.cli import main as bosco
from glideinwms_bosco.cli import manual, settings, ssh_broker, ssh_relay
from glideinwms_bosco.cli.command_line import Command
from glideinwms_bosco.cli.manual_formats import SITE_FILE, file_formats
from glideinwms_bosco.cli.manual_pages import EXIT_STATUSES, FileFormat, Program
from glideinwms_bosco.relay.conf import CONF_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PARSERS = {
    "gwms-bosco": bosco.build_parser,
    "gwms-ssh-broker": ssh_broker.build_parser,
    "gwms-ssh-relay": ssh_relay.build_parser,
}
# They list nothing: they print a file that others read, do one thing and say so in a line, or are a daemon.
WITHOUT_JSON = {
    *("gwms-bosco site schema", "gwms-bosco pilot pack", "gwms-bosco pilot script", "gwms-bosco remote ssh-config"),
    *("gwms-ssh-broker run", "gwms-ssh-broker init", "gwms-ssh-relay run", "gwms-ssh-relay init"),
    *(f"gwms-ssh-broker key {verb}" for verb in ("add", "enable", "disable", "remove", "open", "close", "rotate")),
    *(f"gwms-ssh-broker factory {verb}" for verb in ("add", "remove", "pin", "allow", "forbid")),
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
ABOVE_VERBS = [command for _, command in _programs() if command.commands]
# Of setup.cfg: programs that HTCondor and ssh start -> how the manual calls them.
HELPERS = {
    "gwms_remote_gahp": "/usr/libexec/gwms-bosco/gwms_remote_gahp",
    "gwms-ssh-shim": "/usr/libexec/gwms-bosco/shim/ssh",
    "gwms-ssh-tap": "/usr/bin/gwms-ssh-tap",
}


def _page_files(words: tuple[str, ...]) -> tuple[str, str]:
    """The man page and the page of docs/commands that have a command's arguments."""
    page, section = "-".join(words), "1" if words[0] == "gwms-bosco" else "8"
    return manual.man_files()[f"{page}.{section}"].replace("\\-", "-"), manual.markdown_files()[f"{page}.md"]


def _options(verb: Command) -> set[str]:
    return set(OPTION.findall(_parser(verb).format_help().partition("\nexample:")[0])) - {"--help"}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.page)
def test_each_option_of_the_help_stands_in_manual_docs_and_completion(verb: Command) -> None:
    roff, text = _page_files(verb.words[:-1])
    script = manual.completion_files()[verb.words[0]]
    for option in _options(verb):
        assert option in _section(roff, f".SS {verb.name}\n", "\n.S"), option
        assert option in _section(text, f"## {verb.name}\n", "\n## "), option
        assert re.search(rf"words='[^']*{option}[ ']", script), option


@pytest.mark.parametrize("command", ABOVE_VERBS, ids=lambda command: command.page)
def test_each_option_of_a_program_or_noun_stands_in_manual_docs_and_completion(command: Command) -> None:
    roff, text = _page_files(command.words)
    script = manual.completion_files()[command.words[0]]
    # Not out of the text, in which the lines of verbs may name options of theirs.
    given = {name for action in _parser(command)._actions for name in action.option_strings}
    for option in given - {"-h", "--help"}:
        assert option in _section(roff, ".SH OPTIONS\n", "\n.SH"), option
        assert f"`{option}" in text.partition("\n## ")[0], option
        assert re.search(rf"words='[^']*{option}[ ']", script), option


@pytest.mark.parametrize("command", ABOVE_VERBS, ids=lambda command: command.page)
def test_help_of_a_program_or_noun_has_a_valid_example(command: Command) -> None:
    shown = _parser(command).format_help()
    assert command.summary in " ".join(shown.split())
    example = shown.rstrip().rpartition("\nexample: ")[2]
    assert example.startswith(f"{command.name} ")
    _parse(example)


def test_every_installed_program_is_in_the_manual() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    names = {line.partition("=")[0].strip() for line in setup["options.entry_points"]["console_scripts"].split("\n")}
    assert names - {""} == {*PARSERS, *HELPERS}
    roff, text = _page_files(("gwms-ssh-relay",))
    for name, path in HELPERS.items():
        assert f".B {path}\n" in roff
        assert name in _section(text, f"| `{path}` |", "\n") or name in path


def test_the_tap_explains_itself_as_the_manual_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "glideinwms_bosco.relay.tap", "--help"],
        capture_output=True, text=True, check=True, timeout=30, cwd=ROOT,
    )  # fmt: skip
    usage = done.stdout.splitlines()[0].removeprefix("usage: ")
    assert usage in manual.markdown_files()["gwms-ssh-relay.md"]
    assert "\nexample: ssh " in done.stdout


@pytest.mark.parametrize("given", file_formats(), ids=lambda given: given.name)
def test_each_field_of_a_file_stands_in_its_man_page_and_docs(given: FileFormat) -> None:
    roff = manual.man_files()[f"{given.name}.5"].replace("\\-", "-")
    page = DOCS / "site-file.md" if given.name == SITE_FILE else DOCS / "commands" / f"{given.name}.md"
    text = page.read_text(encoding="utf-8")
    for field in given.fields:
        assert f"\\fB{field.path}\\fR (" in roff, field.path
        assert f"\n| `{field.path}`" in text, field.path
    assert given.path in text or given.name == SITE_FILE


def test_a_program_names_the_files_that_it_reads() -> None:
    named = {name for program in manual.programs() for name in program.formats}
    assert named == {given.name for given in file_formats()}
    for program in manual.programs():
        for page in program.pages:
            text = manual.man_files()[f"{page.page}.{program.section}"].replace("\\-", "-")
            assert all(f".BR {name} (5)" in text for name in program.formats), page.name


def _section(text: str, head: str, end: str) -> str:
    return text.partition(head)[2].partition(end)[0]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.page)
def test_each_argument_is_explained_and_each_example_is_a_valid_call(verb: Command) -> None:
    assert verb.summary
    assert [argument.title for argument in verb.arguments if not argument.text] == []
    assert verb.example.startswith(verb.name)
    _parse(verb.example)


def test_what_lists_something_has_json() -> None:
    assert {verb.name for verb in VERBS if "--json" not in _options(verb)} == WITHOUT_JSON


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


def _mentioned_calls() -> Iterator[tuple[str, str]]:
    """Page and call, from the text of every page: shortened, and with words in capitals for values."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))):
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for found in re.findall(r"`((?:gwms-bosco|gwms-ssh-broker|gwms-ssh-relay) [^`]+)`", text):
            yield page.name, found


def _unknown_words(call: str) -> list[str]:
    """Words of a call that its command does not know: a verb, or an option."""
    words = shlex.split(call)
    command = next(program.command for program in manual.programs() if program.command.name == words[0])
    for at, word in enumerate(words[1:], start=1):
        below = {other.words[-1]: other for other in command.commands}
        if word in below:
            command = below[word]
        elif command.commands and not word.startswith("-"):
            # `gwms-bosco remote VERB` speaks of all of them.
            return [] if word.isupper() else [word]
        elif not command.commands:
            known = {name for argument in command.arguments for name in argument.names}
            return [other for other in words[at:] if other.startswith("--") and other not in known]
    return []


def test_calls_in_the_text_of_pages_name_what_there_is() -> None:
    calls = list(_mentioned_calls())
    assert [(page, call, unknown) for page, call in calls if (unknown := _unknown_words(call))] == []
    assert len(calls) > 80
    assert _unknown_words("gwms-bosco remote dploy SITE") == ["dploy"]
    assert _unknown_words("gwms-bosco remote deploy SITE --everything") == ["--everything"]


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
    folders = {variable for variable, *_ in settings._FOLDERS.values()} | {settings.FILE_VARIABLE}
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
    assert ("FIELDS" if name.endswith(".5") else "EXIT STATUS") in done.stdout


def test_roff_shows_dots_dashes_and_quotes_as_they_are() -> None:
    pages = manual.man_files()
    shown = pages["gwms-bosco-remote.1"]
    assert "\\-\\-retry\\-failed" in shown
    assert "\\(aqnersc*\\(aq" in shown
    for name, page in pages.items():
        assert not re.search(r"^\.(?!SH|SS|TP|TH|B |BR |PP|RS|RE|nf|fi|ad l$|\\\")", page, re.MULTILINE), name


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
