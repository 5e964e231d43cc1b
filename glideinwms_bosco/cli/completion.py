# SPDX-License-Identifier: Apache-2.0
"""Completion of a command line for bash, as a script of its own that starts none of our programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from glideinwms_bosco.cli.command_line import Argument, Command

# Word in the name of a value -> compgen's action; SITE is ours.
_ACTIONS = (("SITE", "site"), ("DIR", "dir"), ("FOLDER", "dir"), ("FILE", "file"), ("PATH", "file"), ("LIB", "file"))
_NAMES_OF_SITE_FILES = "FILE"

_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# bash completion of {program}, written from its own help.

{function}_sites() {{
    local file
    for file in "${{GWMS_BOSCO_SITES:-/etc/gwms-bosco/sites.d}}"/*.yaml; do
        [[ ! -e $file ]] || {{ file=${{file##*/}}; printf '%s\\n' "${{file%.yaml}}"; }}
    done
}}

# kind of value, its beginning
{function}_values() {{
    case $1 in
        *site*) compgen -W "$({function}_sites)" -- "$2" ;;
    esac
    case $1 in
        *file*) compgen -f -- "$2" ;;
        *dir*) compgen -d -- "$2" ;;
    esac
}}

{function}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} path='' value='' i
    COMPREPLY=()
    for ((i = 1; i <= COMP_CWORD; i++)); do
        value=
        # Options whose value is the next word; it names no command.
        case "$path ${{COMP_WORDS[i]}}" in
"""

_MIDDLE = """\
        esac
        if [[ -n $value ]]; then
            ((++i <= COMP_CWORD)) || value=
            continue
        fi
        ((i < COMP_CWORD)) || break
        case "$path ${COMP_WORDS[i]}" in
"""


def bash_completion(program: Command) -> str:
    """The script for one program; sourced, it registers one function."""
    function = "_" + program.name.replace("-", "_")
    commands = list(program.walk())
    lines = [_HEAD.format(program=program.name, function=function).rstrip("\n")]
    lines += [f"            {pattern}) value={kind} ;;" for pattern, kind in _value_options(commands)]
    lines.append(_MIDDLE.rstrip("\n"))
    below = [_quoted(_path(command)) for command in commands if len(command.words) > 1]
    lines += [
        f'            {" | ".join(below)}) path+=" ${{COMP_WORDS[i]}}" ;;',
        "        esac",
        "    done",
        "    local words='' kind=''",
        "    if [[ -n $value ]]; then",
        "        kind=$value",
        "    else",
        "        case $path in",
    ]
    for command in commands:
        names = [name for argument in command.arguments for name in argument.names] + ["--help"]
        lines.append(f"            {_quoted(_path(command))})")
        lines.append(f"                if [[ $word == -* ]]; then words='{' '.join(names)}'")
        verbs = " ".join(below.words[-1] for below in command.commands)
        kinds = "+".join(dict.fromkeys(_kind(argument) for argument in command.arguments if not argument.names))
        lines.append(f"                else words='{verbs}' kind='{kinds}'; fi ;;")
    lines += [
        "        esac",
        "    fi",
        "    case $kind in",
        "        words:*) words=${kind#words:} ;;",
        "        *file* | *dir*) compopt -o filenames 2>/dev/null ;;",
        "    esac",
        f'    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"; {function}_values "$kind" "$word")',
        "}",
        f"complete -F {function} {program.name}",
    ]
    return "\n".join(lines) + "\n"


def _value_options(commands: Iterable[Command]) -> Iterator[tuple[str, str]]:
    for command in commands:
        for argument in command.arguments:
            if argument.names and argument.value:
                patterns = " | ".join(_quoted(f"{_path(command)} {name}") for name in argument.names)
                yield patterns, f"'{_kind(argument)}'"


def _kind(argument: Argument) -> str:
    """What completes a value: `words:A B`, or some of site, file and dir; `none` for what only people know."""
    if argument.choices:
        return f"words:{' '.join(argument.choices)}"
    found = [kind for word, kind in _ACTIONS if re.search(rf"\b{word}", argument.value)]
    if argument.value == _NAMES_OF_SITE_FILES and not argument.names and "short name" in argument.text:
        found.append("site")
    return "+".join(found) or "none"


def _path(command: Command) -> str:
    return "".join(f" {word}" for word in command.words[1:])


def _quoted(path: str) -> str:
    return f"'{path}'"
