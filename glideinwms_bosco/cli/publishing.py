# SPDX-License-Identifier: Apache-2.0
"""Bring config.d to what site files and remembered states say, under the host's lock."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from lxml import etree

from glideinwms_bosco.cli.checks import Checked
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.cli.surroundings import pilot_dir
from glideinwms_bosco.entry.configuration import CONFIG_DIR, MAIN_FILE, read_configuration
from glideinwms_bosco.entry.lifecycle import Record, State, apply_states
from glideinwms_bosco.entry.lint import lint
from glideinwms_bosco.entry.publish import Known, Publication, is_ours, plan_publication, was_ours
from glideinwms_bosco.entry.render import file_name
from glideinwms_bosco.entry.state_file import load_states, locked, save_states
from glideinwms_bosco.entry.write import has_content, write_entry_file
from glideinwms_bosco.errors import EntryError, FileProblemsError, Problem
from glideinwms_bosco.pilot.plan import PilotFile
from glideinwms_bosco.pilot.store import drop_unnamed, is_stored, store


@dataclass(frozen=True)
class Selected:
    """What is rendered: checked sites, files of config.d that belong to a site file, and whether these are all."""

    checked: Checked
    files: Collection[str]
    complete: bool = False


@dataclass(frozen=True)
class Published:
    """One file of config.d: its path, number of entries, and what was (or would be) done to it."""

    file: str
    entries: int
    action: str


@dataclass(frozen=True)
class Outcome:
    """What a publication did.

    Attributes:
        files: what was written or deleted.
        carried: entries kept as disabled copies.
        left_out: entries of site files that were removed.
        inactive: entries of these sites that are disabled, draining or being removed, with their state.
        shadowed: entries of ours that a later file of config.d replaces, with its place.
        pilot_files: files of pilots that were written, or would be.
        dropped: files of pilots that no entry has named for a day, and that were deleted.
    """

    files: tuple[Published, ...]
    carried: tuple[str, ...]
    left_out: tuple[str, ...]
    inactive: Mapping[str, str]
    shadowed: Mapping[str, str]
    pilot_files: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


Select = Callable[[], Selected]
Change = Callable[[Mapping[str, Record], Selected], dict[str, Record]]


def plan(
    settings: Settings, selected: Selected, states: Mapping[str, Record], folder: Path
) -> tuple[dict[str, bytes], Publication]:
    """Say what `folder` would become; the live files of ours, and the plan.

    Raises:
        EntryError: a file that is not ours stands where one of ours would be written.
    """
    now = {name: record.state for name, record in states.items()}
    checked = selected.checked
    rendered = {
        file_name(site, settings.order): apply_states(xml, now) for site, xml in zip(checked.sites, checked.entry_xml)
    }
    removed = {name for name, state in now.items() if state is State.REMOVED}
    known = Known({*selected.files, *rendered}, checked.entries(), selected.complete)
    live = live_files(folder)
    for name in rendered:
        _check_not_foreign(folder / name, live)
    return live, plan_publication(live, rendered, removed, known)


def publish(
    settings: Settings,
    select: Select,
    command: str,
    *,
    folder: Path,
    dry_run: bool = False,
    change: Change = lambda states, _selected: dict(states),
    inspect: Optional[Callable[[Publication, Selected], None]] = None,
) -> Outcome:
    """Write the entries of checked sites, with their states, into `folder`.

    Args:
        select: reads and checks the site files; called under the lock, so that nobody writes older ones over newer.
        command: what holds the lock, for whoever waits for it.
        change: the states after what the operator asked for, from those before.
        inspect: may refuse what would be written, by raising; nothing is written then.

    Raises:
        EntryError: locked by another command, or something cannot be read or written.
    """
    with locked(settings.state_dir, command):
        selected = select()
        states = change(load_states(settings.state_dir), selected)
        live_folder = os.path.realpath(folder) == os.path.realpath(settings.config_d)
        live, publication = plan(settings, selected, states, folder)
        if inspect is not None:
            inspect(publication, selected)
        removed = {name for name, record in states.items() if record.state is State.REMOVED}
        described = {entry.name for site in selected.checked.sites for entry in site.entries}
        if selected.complete:
            # Gone from everywhere: if the name ever comes back, it is a new entry.
            states = {name: record for name, record in states.items() if name in described or name not in removed}
        if live_folder and not dry_run:
            # First the intention, then the files: cut off between the two, the next render finishes.
            save_states(settings.state_dir, states)
        # Before the XML that names them.
        stored = _store(selected.checked.pilot_files, settings, dry_run)
        rows = [_put(folder / name, text, dry_run) for name, text in sorted(publication.files.items())]
        rows += [_delete(folder / name, dry_run) for name in publication.deletes]
        inactive = {
            name: record.state.value
            for name, record in sorted(states.items())
            if name in described and name not in removed and record.state is not State.ACTIVE
        }
        shadowed = _shadowed(folder, publication, live)
        dropped: tuple[str, ...] = ()
        if live_folder and not dry_run:
            dropped = tuple(map(str, drop_unnamed(pilot_dir(settings), _xml_texts(settings))))
        left_out = tuple(sorted(described & removed))
        return Outcome(tuple(rows), publication.carried, left_out, inactive, shadowed, stored, dropped)


def refuse_errors(settings: Settings, publication: Publication, coming: Sequence[PilotFile] = ()) -> None:
    """Lint the configuration as it would be: the factory's own files with ours in their new form.

    Args:
        coming: files that entries name, and that may not be there before the entries are.

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
            if path.name not in publication.deletes:
                shutil.copyfile(path, folder / path.name)
        for name, text in publication.files.items():
            (folder / name).write_bytes(_with_files(text, coming, pilot_dir(settings), Path(scratch)))
        if not any(folder.iterdir()):
            return
        findings = lint([Path(scratch) if main.is_file() else folder])
        problems = [
            Problem(str(settings.config_d / Path(found.file).name), found.line, "", str(found.message), found.remedy)
            for found in findings
            if found.severity == "error" and Path(found.file).name in publication.files
        ]
    if problems:
        raise FileProblemsError(tuple(problems))


def _with_files(text: bytes, coming: Sequence[PilotFile], named: Path, scratch: Path) -> bytes:
    """The XML with files that are there, though empty, in the place of those that are still to be written."""
    for file in coming:
        stand_in = scratch / file.stored_name
        stand_in.touch()
        text = text.replace(f'"{named / file.stored_name}"'.encode(), f'"{stand_in}"'.encode())
    return text


def _store(files: Sequence[PilotFile], settings: Settings, dry_run: bool) -> tuple[str, ...]:
    folder = pilot_dir(settings)
    if dry_run:
        return tuple(str(folder / file.stored_name) for file in files if not is_stored(file, folder))
    return tuple(map(str, store(files, folder)))


def _xml_texts(settings: Settings) -> tuple[bytes, ...]:
    """Every file that reconfig would read, as it is: also what is no XML may name a file."""
    paths = [settings.config_d.parent / MAIN_FILE, *settings.config_d.glob("*.xml")]
    try:
        return tuple(path.read_bytes() for path in paths if path.is_file())
    except OSError as err:
        raise EntryError(f"{err.filename}: cannot be read: {err.strerror}", "is the folder yours?") from None


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
                if is_ours(path.name, text) and _parses(text):
                    found[path.name] = text
    except OSError as err:
        hint = "does the folder exist, is it yours?"
        raise EntryError(f"{err.filename}: cannot be read: {err.strerror}", hint) from None
    return found


def is_disabled(settings: Settings, name: str) -> bool:
    """Tell whether the live configuration has this entry as `enabled="False"`, or not at all."""
    if not any(path.suffix == ".xml" for path in settings.config_d.iterdir()):
        return True
    found = [entry for entry in read_configuration([settings.config_d]).entries() if entry.name == name]
    return all(entry.winner.element.get("enabled") == "False" for entry in found)


def _check_not_foreign(path: Path, live: Mapping[str, bytes]) -> None:
    if path.name in live or not path.exists():
        return
    try:
        ours = was_ours(path.read_bytes())
    except OSError as err:
        raise EntryError(f"{path}: cannot be read: {err.strerror}", "is the folder yours?") from None
    if not ours:
        hint = "move it away, or rename the site file or change `order` in gwms-bosco.yaml"
        raise EntryError(f"{path} was not written by gwms-bosco and would be overwritten", hint)


def _shadowed(folder: Path, publication: Publication, live: Mapping[str, bytes]) -> dict[str, str]:
    """Entries of our files that a file which is not ours, and is read later, replaces."""
    ours = {
        str(entry.get("name")): file
        for file, text in publication.files.items()
        for entry in etree.fromstring(text).findall("./entries/entry")
    }
    found = {}
    for path in sorted(folder.glob("*.xml")):
        if path.name in publication.files or path.name in live:
            continue
        try:
            root = etree.parse(str(path)).getroot()
        except (OSError, etree.XMLSyntaxError):
            continue
        for entry in root.findall("./entries/entry"):
            name = str(entry.get("name"))
            if name in ours and path.name > ours[name]:
                found[name] = f"{path}:{entry.sourceline}"
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
