# SPDX-License-Identifier: Apache-2.0
"""Which files make up a configuration, and which definition of an entry counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.entry.configuration import configuration_files, merged_root, read_configuration
from glideinwms_bosco.errors import UsageError


def _write(path: Path, inside: str, root: str = "<glidein>") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{root}\n{inside}\n</glidein>\n", encoding="utf-8")
    return path


def _entry(name: str, gatekeeper: str = "u@h") -> str:
    return f'<entries>\n<entry name="{name}" gatekeeper="{gatekeeper}"/>\n</entries>'


def test_main_file_comes_first_and_config_d_is_sorted_by_name(tmp_path: Path) -> None:
    main = _write(tmp_path / "glideinWMS.xml", "")
    for name in ("b.xml", "A.xml", ".c.xml", "d.xml.rpmsave"):
        _write(tmp_path / "config.d" / name, "")
    expected = (main, *(tmp_path / "config.d" / name for name in (".c.xml", "A.xml", "b.xml")))
    assert configuration_files(main) == expected
    assert configuration_files(tmp_path) == expected


def test_folder_without_main_file_means_its_xml_files(tmp_path: Path) -> None:
    only = _write(tmp_path / "config.d" / "a.xml", "")
    assert configuration_files(tmp_path / "config.d") == (only,)
    assert configuration_files(only) == (only,)


@pytest.mark.parametrize("name", ["missing.xml", "empty", "nul\0"])
def test_refuses_path_without_any_xml(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError):
        configuration_files(tmp_path / name)


def test_later_file_replaces_whole_entry(tmp_path: Path) -> None:
    first = _write(tmp_path / "1.xml", _entry("E", "old@h"))
    second = _write(tmp_path / "2.xml", "\n" + _entry("E", "new@h"))
    (entry,) = read_configuration([tmp_path]).entries()
    assert entry.winner.element.get("gatekeeper") == "new@h"
    assert str(entry.winner) == f"{second}:4"
    assert [str(place) for place in entry.replaced] == [f"{first}:3"]


def test_file_given_twice_counts_once(tmp_path: Path) -> None:
    path = _write(tmp_path / "1.xml", _entry("E"))
    (entry,) = read_configuration([tmp_path, path]).entries()
    assert entry.replaced == ()


def test_two_definitions_in_one_file_are_twins_not_replacements(tmp_path: Path) -> None:
    _write(tmp_path / "1.xml", '<entries><entry name="E"/>\n<entry name="E"/></entries>')
    (entry,) = read_configuration([tmp_path]).entries()
    assert (entry.winner.line, [place.line for place in entry.twins], entry.replaced) == (2, [3], ())


def test_of_two_lists_in_one_file_only_the_last_counts(tmp_path: Path) -> None:
    _write(tmp_path / "1.xml", _entry("Lost") + _entry("Kept"))
    assert [entry.name for entry in read_configuration([tmp_path]).entries()] == ["Kept"]


def test_unreadable_and_foreign_files_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    _write(tmp_path / "1.xml", "<entries>")
    (tmp_path / "2.xml").write_text("<frontend/>", encoding="utf-8")
    _write(tmp_path / "3.xml", _entry("E"))
    configuration = read_configuration([tmp_path])
    assert [entry.name for entry in configuration.entries()] == ["E"]
    assert [Path(problem.file).name for problem in configuration.problems] == ["1.xml", "2.xml"]


def test_main_file_is_the_one_that_names_the_factory(tmp_path: Path) -> None:
    _write(tmp_path / "any.xml", "", '<glidein factory_name="f">')
    assert read_configuration([tmp_path]).main is not None
    assert read_configuration([_write(tmp_path / "b" / "part.xml", "")]).main is None


def test_merges_sections_attribute_by_attribute_and_lists_by_key(tmp_path: Path) -> None:
    first = (
        '<submit base_dir="a" num_factories="1"/><attrs><attr name="B" value="1"/><attr name="A" value="1"/></attrs>'
    )
    second = '<submit base_dir="b"/><attrs><attr name="B" type="int"/><attr name="C" value="2"/></attrs>'
    _write(tmp_path / "1.xml", first, '<glidein loop_delay="1">')
    _write(tmp_path / "2.xml", second, '<glidein loop_delay="2">')
    expected = (
        '<glidein loop_delay="2"><submit base_dir="b" num_factories="1"/>'
        '<attrs><attr name="A" value="1"/><attr name="B" type="int"/><attr name="C" value="2"/></attrs></glidein>'
    )
    assert etree.tostring(merged_root(read_configuration([tmp_path])), encoding="unicode") == expected
