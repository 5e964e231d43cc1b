# SPDX-License-Identifier: Apache-2.0
"""Meaning of entries: what counts of them for glideinWMS, and nothing else."""

from __future__ import annotations

import pytest
from lxml import etree

from glideinwms_bosco.entry.configuration import child, elements
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.xml_source import MAX_DEPTH


def meaning(inside: str) -> Meaning:
    root = etree.fromstring(f'<glidein><entries><entry name="E">{inside}</entry></entries></glidein>')
    found = entry_meanings(root)["E"]
    assert found.pop("@name") == "E"
    return found


@pytest.mark.parametrize(
    ("twice", "last"),
    [
        ('<attrs><attr name="A"/></attrs><attrs><attr name="B"/></attrs>', '<attrs><attr name="B"/></attrs>'),
        ('<attrs><attr name="A"/></attrs><attrs/>', "<attrs/>"),
        (
            '<config><submit sleep="1"/></config><config><release sleep="2"/></config>',
            '<config><release sleep="2"/></config>',
        ),
        (
            '<config><submit sleep="1" cluster_size="3"/><submit sleep="2"/></config>',
            '<config><submit sleep="2"/></config>',
        ),
        (
            '<files><file absfname="/a"/></files><files><file absfname="/b"/></files>',
            '<files><file absfname="/b"/></files>',
        ),
        ('<unknown x="1"/><other/><unknown y="2"/>', '<unknown y="2"/>'),
    ],
)
def test_of_equal_sections_the_last_counts(twice: str, last: str) -> None:
    assert meaning(twice) == meaning(last)


def test_of_two_entries_elements_the_last_counts_as_in_the_configuration() -> None:
    root = etree.fromstring(
        '<glidein><entries><entry name="A"/><entry name="B" rsl="1"/></entries><attrs/>'
        '<entries><entry name="B" rsl="2"/></entries></glidein>'
    )
    assert entry_meanings(root) == {"B": {"@name": "B", "@rsl": "2"}}
    assert [entry.get("rsl") for entry in elements(root, "entries", "entry")] == ["2"]
    assert child(root, "entries") is root[2]


def test_of_equal_keys_in_a_list_the_later_counts_whole() -> None:
    found = meaning('<attrs><attr name="A" value="1" type="int"/><attr name="A" value="2"/></attrs>')
    assert found == {"attrs/[A]/@name": "A", "attrs/[A]/@value": "2"}


def test_one_file_has_no_position() -> None:
    assert meaning('<files><file absfname="/a"/><file/></files>') == {"files/[/a]/@absfname": "/a"}


def test_order_of_files_matters() -> None:
    one, other = (
        meaning("<files>" + "".join(f'<file absfname="{name}"/>' for name in names) + "</files>")
        for names in (("/a", "/b"), ("/b", "/a"))
    )
    assert one["files/[/a]/@(position)"] == other["files/[/b]/@(position)"] == "1"
    assert {path: value for path, value in one.items() if "position" not in path} == {
        path: value for path, value in other.items() if "position" not in path
    }
    assert one != other


def test_order_of_attributes_does_not_matter() -> None:
    assert meaning('<attrs><attr name="A"/><attr name="B"/></attrs>') == meaning(
        '<attrs><attr name="B"/><attr name="A"/></attrs>'
    )


def test_file_that_stands_there_again_counts_again() -> None:
    names = ("/a", "/a#2", "/a", "/a", "/a#2")
    found = meaning(
        "<files>" + "".join(f'<file absfname="{name}" prefix="{i}"/>' for i, name in enumerate(names)) + "</files>"
    )
    assert {path[7:-9]: value for path, value in found.items() if path.endswith("]/@prefix")} == {
        "/a": "0",
        "/a#2": "1",
        "/a#3": "2",
        "/a#4": "3",
        "/a#2#2": "4",
    }
    assert sorted(value for path, value in found.items() if path.endswith("@(position)")) == list("12345")


def test_deep_files_are_read_once() -> None:
    """One reading more per level would be 2^28 readings."""
    depth = MAX_DEPTH - 4
    found = meaning("<files>" * depth + '<file absfname="/a"/>' + "</files>" * depth)
    assert list(found.values()) == ["/a"]
