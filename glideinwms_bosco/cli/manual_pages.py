# SPDX-License-Identifier: Apache-2.0
"""Man pages and Markdown: a page for each program and each of its nouns, verbs as sections; a page for each file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glideinwms_bosco.cli.command_line import Argument, Command
from glideinwms_bosco.cli.schema_fields import Field
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, EXIT_REMOTE, EXIT_USAGE

EXIT_STATUSES = (
    (str(EXIT_OK), "done"),
    (str(EXIT_REFUSED), "refused: what was given or found is not as it must be; nothing was done"),
    (str(EXIT_USAGE), "wrong call, a name or path that is not there, or settings that cannot be used"),
    (str(EXIT_REMOTE), "the remote side failed: login node, schedd, relay or broker; one account of several is enough"),
    ("129, 130, 143", "ended by HUP, Ctrl-C or TERM"),
)
"""Exit status -> meaning; docs/exit-status.md has the same."""

FORMATS = 5
"""Section of the manual for files. Source: man-pages(7)."""

_MARKDOWN_HEAD = (
    "<!-- SPDX-License-Identifier: Apache-2.0 -->",
    "<!-- Written by `make commands` from the programs' own help; change that instead. -->",
)
_CODE_SPAN = re.compile(r"(`[^`]*`)")
_MARKDOWN = str.maketrans({"*": r"\*", "_": r"\_", "<": "&lt;", "[": r"\[", "]": r"\]"})


@dataclass(frozen=True)
class Program:
    """A program and what its pages say besides its commands.

    Attributes:
        command: the whole command line.
        section: of the manual.
        version: of the release.
        environment: variable, meaning.
        files: path, meaning.
        formats: names of the pages in section 5 that belong to it.
    """

    command: Command
    section: int
    version: str
    environment: Sequence[tuple[str, str]]
    files: Sequence[tuple[str, str]]
    formats: Sequence[str] = ()

    @property
    def pages(self) -> tuple[Command, ...]:
        """The program, then all commands that have commands."""
        return tuple(command for command in self.command.walk() if command.commands or command is self.command)


@dataclass(frozen=True)
class FileFormat:
    """A file that people write, and what its page says.

    Attributes:
        name: of its page in section 5, such as `gwms-bosco.yaml`.
        path: where it lies.
        summary: one line, without a full stop.
        text: sentences on what it is and which command checks it.
        fields: all of them.
        more: pages to see, with their sections.
    """

    name: str
    path: str
    summary: str
    text: str
    fields: Sequence[Field]
    more: Sequence[tuple[str, int]]


def man_page(program: Program, page: Command) -> str:
    """A page in roff, man macros. Source: man-pages(7), groff_man(7)."""
    name = page.page
    lines = [
        '.\\" SPDX-License-Identifier: Apache-2.0',
        f'.TH {_roff(name.upper())} {program.section} "" "glideinwms-bosco {program.version}" "glideinWMS"',
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(_sentence(page.summary))}",
        ".SH SYNOPSIS",
    ]
    for name, words in _synopses(page):
        lines += [".TP", f".B {_roff(name)}", _roff(words) or "\\&"]
    if page.arguments:
        lines += [".SH OPTIONS", *_roff_arguments(page.arguments)]
    lines.append(".SH COMMANDS")
    for command in page.commands:
        lines += [f".SS {_roff(command.name)}", _roff(command.summary)]
        if command.commands:
            lines += [".PP", f"See \\fB{_roff(command.page)}\\fR({program.section})."]
            continue
        lines += _roff_arguments(command.arguments)
        if command.example:
            lines += [".PP", "Example:", ".PP", ".RS 4", ".nf", _roff(command.example), ".fi", ".RE"]
    for title, rows in (
        ("EXIT STATUS", EXIT_STATUSES),
        ("ENVIRONMENT", program.environment),
        ("FILES", program.files),
    ):
        lines.append(f".SH {title}")
        for what, text in rows:
            lines += [".TP", f".B {_roff(what)}", _roff(text)]
    others = [(other.page, program.section) for other in program.pages if other is not page]
    lines += _roff_see_also([*others, *((name, FORMATS) for name in program.formats)])
    return "\n".join(lines) + "\n"


def file_man_page(given: FileFormat, version: str) -> str:
    """The page of a file in roff; each field with its kind, whether it must be there, its meaning, an example."""
    lines = [
        '.\\" SPDX-License-Identifier: Apache-2.0',
        f'.TH {_roff(given.name.upper())} {FORMATS} "" "glideinwms-bosco {version}" "glideinWMS"',
        ".SH NAME",
        f"{_roff(given.name)} \\- {_roff(given.summary)}",
        ".SH SYNOPSIS",
        f".B {_roff(given.path)}",
        ".SH DESCRIPTION",
        # Paths and examples are long words: no line can be filled evenly.
        ".ad l",
        _roff(given.text),
        ".SH FIELDS",
    ]
    for field in given.fields:
        needed = ", required" if field.required else ""
        lines += [".TP", f"\\fB{_roff(field.path)}\\fR ({_roff(field.kind)}{needed})", _roff(_full(field.meaning))]
        lines += [".nf", f"Example: {_roff(field.example)}", ".fi"]
    return "\n".join([*lines, *_roff_see_also(given.more)]) + "\n"


def file_markdown_page(given: FileFormat) -> str:
    """The page of a file in docs/commands."""
    lines = [
        *_MARKDOWN_HEAD,
        f"# {given.name}",
        f"`{given.path}`. {_markdown(given.text)}",
        "",
        "| field | value | meaning | example |",
        "|---|---|---|---|",
    ]
    for field in given.fields:
        needed = " (required)" if field.required else ""
        example = field.example.replace("|", r"\|")
        lines.append(f"| `{field.path}`{needed} | {_cell(field.kind)} | {_cell(_full(field.meaning))} | `{example}` |")
    return "\n".join(lines) + "\n"


def markdown_page(program: Program, page: Command) -> str:
    """A page of docs/commands."""
    lines = [
        *_MARKDOWN_HEAD,
        f"# {page.name}",
        _markdown(_capital(page.summary)),
        "",
    ]
    lines += _markdown_arguments(page.arguments)
    for command in page.commands:
        if command.commands:
            lines += [f"- [{command.name}]({command.page}.md): {_markdown(command.summary)}"]
    if lines[-1]:
        lines.append("")
    for command in page.commands:
        if command.commands:
            continue
        lines += [f"## {command.name}", _markdown(_capital(command.summary)), ""]
        lines += ["```", " ".join(filter(None, (command.name, command.synopsis))), "```", ""]
        lines += _markdown_arguments(command.arguments)
        lines += ["Example:", "", "```", command.example, "```", ""]
    if page is program.command:
        for title, head, rows in (
            ("Environment", "variable", program.environment),
            ("Files", "path", program.files),
        ):
            lines += [f"## {title}", f"| {head} | meaning |", "|---|---|"]
            lines += [f"| `{what}` | {_cell(text)} |" for what, text in rows]
            lines.append("")
    lines.append("Exit status: [exit-status.md](../exit-status.md). `--help` prints this in short.")
    return "\n".join(lines) + "\n"


def markdown_index(programs: Sequence[Program], formats: Sequence[FileFormat]) -> str:
    """Every command with its line, by page; every file."""
    lines = [
        *_MARKDOWN_HEAD,
        "# All commands",
        "| command | what it does |",
        "|---|---|",
    ]
    for program in programs:
        for page in program.pages:
            for command in page.commands:
                if not command.commands:
                    anchor = command.name.replace(" ", "-")
                    lines.append(f"| [{command.name}]({page.page}.md#{anchor}) | {_cell(command.summary)} |")
    lines += ["", "## Files", "| file | what it is |", "|---|---|"]
    lines += [f"| [{given.path}]({given.name}.md) | {_cell(_full(given.summary))} |" for given in formats]
    return "\n".join(lines) + "\n"


def _synopses(page: Command) -> Iterator[tuple[str, str]]:
    for command in page.commands:
        yield command.name, "COMMAND ..." if command.commands else command.synopsis


def _roff_arguments(arguments: Sequence[Argument]) -> Iterator[str]:
    for argument in arguments:
        yield ".TP"
        yield f".B {_roff(argument.title)}"
        yield _roff(_with_notes(argument))


def _markdown_arguments(arguments: Sequence[Argument]) -> Iterator[str]:
    if not arguments:
        return
    yield "| argument | meaning |"
    yield "|---|---|"
    for argument in arguments:
        title = argument.title.replace("|", r"\|")
        yield f"| `{title}` | {_cell(_with_notes(argument))} |"
    yield ""


def _with_notes(argument: Argument) -> str:
    notes = []
    if argument.names and argument.required and argument.group < 0:
        notes.append("required")
    if argument.names and argument.many and "repeat" not in argument.text:
        notes.append("may be repeated")
    return f"{argument.text} ({', '.join(notes)})" if notes else argument.text


def _roff_see_also(others: Sequence[tuple[str, int]]) -> list[str]:
    if not others:
        return []
    return [".SH SEE ALSO", ",\n".join(f".BR {_roff(name)} ({section})" for name, section in others)]


def _full(text: str) -> str:
    """A whole sentence; some schemas have half ones, which their messages go on from."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text[:2].islower() else f"{text.rstrip('.')}."


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".") if not text[:2].isupper() else text.rstrip(".")


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _roff(text: str) -> str:
    """Text that roff prints as it is: dashes stay dashes, nothing is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    escaped = escaped.replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith((".", "\\(aq")) else escaped


def _markdown(text: str) -> str:
    """Text that Markdown prints as it is; what stands in backticks is code."""
    parts = _CODE_SPAN.split(text)
    return "".join(part if part.startswith("`") else part.translate(_MARKDOWN) for part in parts)


def _cell(text: str) -> str:
    return _markdown(text).replace("|", r"\|")
