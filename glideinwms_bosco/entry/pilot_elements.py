# SPDX-License-Identifier: Apache-2.0
"""What a pilot brings along as `<file>` and `<attr>` elements, in front of what the entry has of its own."""

from __future__ import annotations

import posixpath
from pathlib import Path

from lxml import etree

from glideinwms_bosco.errors import EntryError
from glideinwms_bosco.pilot.plan import EXECUTABLE, UNTAR, WRAPPER, PilotFile, PilotPlan


def add_files(files: etree._Element, plan: PilotPlan, folder: Path) -> None:
    """Put the files of a plan first into a `<files>` element.

    Args:
        folder: where they are stored on the factory.

    Raises:
        EntryError: the entry has a file of its own that gets the same name on the node.
    """
    names = {file.node_name for file in plan.files}
    for own in files.iterchildren("file"):
        name = own.get("relfname") or posixpath.basename(own.get("absfname") or "")
        if name in names:
            message = (
                f"{own.get('absfname')} gets the name {name} on the node, as one of the runtime block's files does"
            )
            # reconfig keeps one of the two. Source: glideinWMS 3.10 creation/lib/cWDictFile.py, add_from_file.
            raise EntryError(message, "give it another name by relfname")
    for i, file in enumerate(plan.files):
        files.insert(i, _file(file, folder))


def _file(file: PilotFile, folder: Path) -> etree._Element:
    # Every flag is said: glideinWMS refuses a file that is two things at once, and its defaults may change.
    element = etree.Element("file")
    for name, value in (
        ("absfname", str(folder / file.stored_name)),
        ("relfname", file.node_name),
        ("const", "True"),
        ("executable", str(file.kind == EXECUTABLE)),
        ("wrapper", str(file.kind == WRAPPER)),
        ("untar", str(file.kind == UNTAR)),
        ("period", str(file.period_s)),
    ):
        element.set(name, value)
    if file.kind == UNTAR:
        options = etree.SubElement(element, "untar_options")
        options.set("cond_attr", "TRUE")
        options.set("dir", file.name)
        options.set("absdir_outattr", str(file.attribute))
    return element
