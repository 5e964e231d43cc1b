# SPDX-License-Identifier: Apache-2.0
"""A program's command line as data: read from its argparse parser, so that help, manual and completion agree."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

_EXAMPLE = "example: "
_FLAG = 0


@dataclass(frozen=True)
class Argument:
    """One option or operand.

    Attributes:
        names: of an option, such as `-h`, `--help`; empty for an operand.
        value: how its value is called (`FILE`); empty for a flag.
        text: what it is for.
        required: it must be there.
        many: an operand that may stand several times, an option that may be repeated.
        choices: the only values there are; empty when anything goes.
        group: number of the set of options of which only one may be there; -1 when in none.
    """

    names: tuple[str, ...]
    value: str
    text: str
    required: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()
    group: int = -1

    @property
    def title(self) -> str:
        """Names and value as a list of options shows them."""
        return " ".join(part for part in (", ".join(self.names), self.value) if part)

    @property
    def usage(self) -> str:
        """It in a synopsis, without brackets."""
        return " ".join(part for part in (*self.names[-1:], self.value) if part)


@dataclass(frozen=True)
class Command:
    """A program, a noun or a verb.

    Attributes:
        words: as typed, the program first.
        summary: one line.
        example: a whole call; empty when the parser has none.
        arguments: operands and options, without `--help`, which all have.
        commands: nouns and verbs below it, in the order of the help.
    """

    words: tuple[str, ...]
    summary: str
    example: str
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...] = ()

    @property
    def name(self) -> str:
        """The words, as typed."""
        return " ".join(self.words)

    @property
    def page(self) -> str:
        """Name of its page, such as `gwms-bosco-site`."""
        return "-".join(self.words)

    @property
    def synopsis(self) -> str:
        """What may follow the words."""
        parts: list[str] = []
        seen: set[int] = set()
        for argument in self.arguments:
            if argument.group < 0:
                parts.append(_bracketed(argument.usage, argument.required, argument.many))
            elif argument.group not in seen:
                seen.add(argument.group)
                group = [other for other in self.arguments if other.group == argument.group]
                words = " | ".join(other.usage for other in group)
                parts.append(f"({words})" if argument.required else f"[{words}]")
        return " ".join(parts)

    def walk(self) -> Iterator[Command]:
        """It and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


def read_command_line(parser: argparse.ArgumentParser) -> Command:
    """A program's whole command line."""
    return _command(parser, (parser.prog,), parser.description or "")


def _command(parser: argparse.ArgumentParser, words: tuple[str, ...], summary: str) -> Command:
    # argparse has no public way to ask for any of this; the names are the same from Python 3.9 to 3.14.
    commands: list[Command] = []
    arguments: list[Argument] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands += [_command(below, (*words, name), texts[name]) for name, below in action.choices.items()]
        elif not isinstance(action, argparse._HelpAction):
            arguments.append(_argument(action, parser))
    epilog = parser.epilog or ""
    example = epilog[len(_EXAMPLE) :] if epilog.startswith(_EXAMPLE) else ""
    # As argparse prints them: operands first when somebody looks for what a command wants.
    arguments.sort(key=lambda argument: bool(argument.names))
    return Command(words, parser.description or summary, example, tuple(arguments), tuple(commands))


def _argument(action: argparse.Action, parser: argparse.ArgumentParser) -> Argument:
    choices = tuple(str(choice) for choice in action.choices or ())
    if action.nargs == _FLAG:
        value = ""
    elif isinstance(action.metavar, str):
        value = action.metavar
    else:
        value = "|".join(choices) or action.dest.upper()
    if action.nargs == argparse.REMAINDER:
        value += " ..."
    group, required = -1, action.required
    for number, found in enumerate(parser._mutually_exclusive_groups):
        if action in found._group_actions:
            group, required = number, found.required
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    many = action.nargs in ("*", "+") or isinstance(action, argparse._AppendAction)
    if not action.option_strings:
        required = action.nargs not in ("*", "?")
    return Argument(tuple(action.option_strings), value, text, required, many, choices, group)


def _bracketed(usage: str, required: bool, many: bool) -> str:
    if required:
        return f"{usage} [{usage} ...]" if many else usage
    return f"[{usage} ...]" if many else f"[{usage}]"
