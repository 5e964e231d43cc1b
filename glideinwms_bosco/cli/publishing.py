# SPDX-License-Identifier: Apache-2.0
"""Bring config.d to what site files and remembered states say, under the host's lock."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from lxml import etree

from glideinwms_bosco.cli.checks import Checked
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.entry.configuration import CONFIG_DIR, MAIN_FILE
from glideinwms_bosco.entry.lifecycle import Record, State, apply_states
from glideinwms_bosco.entry.lint import lint
from glideinwms_bosco.entry.publish import Publication, is_ours, plan_publication
from glideinwms_bosco.entry.render import file_name
from glideinwms_bosco.entry.state_file import load_states, locked, new_record, save_states
from glideinwms_bosco.entry.write import has_content, write_entry_file
from glideinwms_bosco.errors import EntryError, FileProblemsError, Problem

Change = Callable[[Mapping[str, Record]], dict[str, Record]]


@dataclass(frozen=True)
class Published:
    """One file of config.d: its path, number of entries, and what was (or would be) done to it."""

    file: str
    entries: int
    action: str


@dataclass(frozen=True)
class Outcome:
    """What a publication did: files, entries kept as disabled copies, and entries of site files that were removed."""

    files: tuple[Published, ...]
    carried: tuple[str, ...]
    left_out: tuple[str, ...]


def publish(
    settings: Settings,
    checked: Checked,
    command: str,
    *,
    folder: Path,
    lost: Optional[Collection[str]] = (),
    dry_run: bool = False,
    change: Change = dict,
    inspect: Optional[Callable[[Publication], None]] = None,
) -> Outcome:
    """Write the entries of checked sites, with their states, into `folder`.

    Args:
        command: what holds the lock, for whoever waits for it.
        lost: as in `plan_publication`.
        inspect: may refuse what would be written, by raising; nothing is written then.
        change: the states after what the operator asked for, from those before.

    Raises:
        EntryError: locked by another command, or something cannot be read or written.
    """
    with locked(settings.state_dir, command):
        states = change(load_states(settings.state_dir))
        now = {name: record.state for name, record in states.items()}
        rendered = {
            file_name(site, settings.order): apply_states(xml, now)
            for site, xml in zip(checked.sites, checked.entry_xml)
        }
        removed = {name for name, state in now.items() if state is State.REMOVED}
        plan = plan_publication(live_files(folder), rendered, removed, lost)
        for name in plan.carried:
            if now.get(name) is not State.REMOVING:
                states[name] = new_record(State.REMOVING)
        if inspect is not None:
            inspect(plan)
        described = {entry.name for site in checked.sites for entry in site.entries}
        if lost is None:
            # Gone from everywhere: if the name ever comes back, it is a new entry.
            states = {name: record for name, record in states.items() if name in described or name not in removed}
        rows = []
        if not dry_run and folder == settings.config_d:
            # First the intention, then the files: cut off between the two, the next render finishes.
            save_states(settings.state_dir, states)
        for name, text in sorted(plan.files.items()):
            rows.append(_put(folder / name, text, dry_run))
        for name in plan.deletes:
            rows.append(_delete(folder / name, dry_run))
        return Outcome(tuple(rows), plan.carried, tuple(sorted(described & removed)))


def refuse_errors(settings: Settings, plan: Publication) -> None:
    """Lint the configuration as it would be: the factory's own files with ours in their new form.

    Raises:
        FileProblemsError: with the errors that concern files which would be written.
    """
    with tempfile.TemporaryDirectory(prefix="gwms-bosco-") as scratch:
        folder = Path(scratch) / CONFIG_DIR
        folder.mkdir()
        main = settings.config_d.parent / MAIN_FILE
        if main.is_file():
            shutil.copyfile(main, Path(scratch) / MAIN_FILE)
        for path in settings.config_d.glob("*.xml"):
            if path.name not in plan.deletes:
                shutil.copyfile(path, folder / path.name)
        for name, text in plan.files.items():
            (folder / name).write_bytes(text)
        findings = lint([Path(scratch) if main.is_file() else folder])
        problems = [
            Problem(str(settings.config_d / Path(found.file).name), found.line, "", str(found.message), found.remedy)
            for found in findings
            if found.severity == "error" and Path(found.file).name in plan.files
        ]
    if problems:
        raise FileProblemsError(tuple(problems))


def live_files(folder: Path) -> dict[str, bytes]:
    """The files of config.d that are ours and can be read as XML; a damaged one is simply written anew.

    Raises:
        EntryError: the folder is missing or cannot be read.
    """
    found = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix == ".xml" and path.is_file():
                text = path.read_bytes()
                if is_ours(text) and _parses(text):
                    found[path.name] = text
    except OSError as err:
        raise EntryError(
            f"{err.filename}: cannot be read: {err.strerror}", "does the folder exist, is it yours?"
        ) from None
    return found


def _parses(text: bytes) -> bool:
    try:
        etree.fromstring(text)
    except etree.XMLSyntaxError:
        return False
    return True


def _put(path: Path, text: bytes, dry_run: bool) -> Published:
    entries = len(etree.fromstring(text).findall("./entries/entry"))
    if dry_run:
        return Published(str(path), entries, "unchanged" if has_content(path, text) else "would write")
    return Published(str(path), entries, "written" if write_entry_file(path, text) else "unchanged")


def _delete(path: Path, dry_run: bool) -> Published:
    if dry_run:
        return Published(str(path), 0, "would delete")
    try:
        path.unlink(missing_ok=True)
    except OSError as err:
        raise EntryError(f"{path}: cannot be deleted: {err.strerror}", "is the folder yours?") from None
    return Published(str(path), 0, "deleted")
