# SPDX-License-Identifier: Apache-2.0
"""Packing: one file per script, the same bytes from the same sources."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glideinwms_bosco.errors import PilotError
from glideinwms_bosco.pilot.scripts import (
    MAX_SOURCE_BYTES,
    default_scripts_dir,
    pack_script,
    read_sources,
    with_words,
)
from tests.unit.pilot_world import LIBRARY, SCRIPTS, make_scripts


def test_library_stands_where_it_is_named() -> None:
    sources = {"a": "#!/bin/bash\n# gwms-bosco-include: lib/x.sh\nx\n", "lib/x.sh": "#!/bin/sh\nx() { :; }\n"}
    assert pack_script("a", sources) == b"#!/bin/bash\nx() { :; }\nx\n"


def test_library_named_twice_and_by_another_comes_once_and_first() -> None:
    sources = {
        "a": "# gwms-bosco-include: lib/y.sh lib/x.sh\nend\n",
        "lib/x.sh": "x",
        "lib/y.sh": "# gwms-bosco-include: lib/x.sh\ny\n",
    }
    assert pack_script("a", sources) == b"x\ny\nend\n"


def test_libraries_that_name_each_other_come_to_an_end() -> None:
    sources = {
        "a": "# gwms-bosco-include: lib/x.sh\n",
        "lib/x.sh": "# gwms-bosco-include: lib/y.sh\nx\n",
        "lib/y.sh": "# gwms-bosco-include: lib/x.sh\ny\n",
    }
    assert pack_script("a", sources) == b"y\nx\n"


def test_backslashes_of_a_library_stay() -> None:
    sources = {"a": "# gwms-bosco-include: lib/x.sh\n", "lib/x.sh": r"sed 's/\(a\)/\1\n/'" + "\n"}
    assert pack_script("a", sources) == rb"sed 's/\(a\)/\1\n/'" + b"\n"


@pytest.mark.parametrize("line", ["lib/none.sh", "../x.sh", "lib/../a", "/etc/passwd", "a", "", "  "])
def test_refuses_an_include_line_that_names_no_library(line: str) -> None:
    with pytest.raises(PilotError, match=r"a (includes|has an include line)"):
        pack_script("a", {"a": f"# gwms-bosco-include: {line}\n"})


def test_refuses_a_script_that_is_not_there() -> None:
    with pytest.raises(PilotError, match="no pilot script cvmfs_setup"):
        pack_script("cvmfs_setup", {})


def test_reads_scripts_and_libraries_and_nothing_else(tmp_path: Path) -> None:
    folder = make_scripts(tmp_path / "scripts")
    (folder / ".cvmfs_setup.swp").write_bytes(b"\xff")
    (folder / "other").mkdir()
    (folder / "other" / "file").write_bytes(b"\xff")
    assert set(read_sources(folder)) == {
        *SCRIPTS,
        LIBRARY,
    }


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff", "UTF-8"), (b"a\r\n", "CR LF"), (b"x" * (MAX_SOURCE_BYTES + 1), "larger than")]
)
def test_refuses_a_source_no_shell_would_read(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "cvmfs_setup").write_bytes(content)
    with pytest.raises(PilotError, match=message):
        read_sources(tmp_path)


def test_reads_a_source_of_the_largest_size(tmp_path: Path) -> None:
    (tmp_path / "cvmfs_setup").write_bytes(b"x" * MAX_SOURCE_BYTES)
    assert len(read_sources(tmp_path)["cvmfs_setup"]) == MAX_SOURCE_BYTES


def test_refuses_a_pipe_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cvmfs_setup")
    with pytest.raises(PilotError, match="not a regular file"):
        read_sources(tmp_path)


def test_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="cannot be read"):
        read_sources(tmp_path / "none")


def test_every_script_that_a_site_can_ask_for_is_shipped() -> None:
    """tests/unit/test_pilot_plan.py says that these are all."""
    assert set(SCRIPTS) <= set(read_sources(default_scripts_dir()))


@pytest.mark.parametrize("word", ["", "a b", "$(id)", "a'b", "a\nb", '"'])
def test_no_word_that_a_shell_reads_is_put_into_a_script(word: str) -> None:
    assert with_words(b'#!/bin/sh\nmain "$@"\n', ["/a.sif", "-"]) == b'#!/bin/sh\nmain /a.sif - "$@"\n'
    for script, words in ((b'main "$@"\n', [word]), (b"main\n", ["a"]), (b'main "$@"\nmore\n', ["a"])):
        with pytest.raises(PilotError):
            with_words(script, words)


def test_every_shipped_script_can_be_packed() -> None:
    sources = read_sources(default_scripts_dir())
    for name in sources:
        packed = pack_script(name, sources)
        assert b"gwms-bosco-include:" not in packed
        shell = "bash" if packed.startswith(b"#!/bin/bash") or name.startswith("lib/") else "sh"
        done = subprocess.run([shell, "-n"], input=packed, capture_output=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("above", ["lib/python3.9/site-packages", "local/lib/python3.11/dist-packages", "."])
def test_installed_scripts_are_found_below_the_prefix_of_the_package(tmp_path: Path, above: str) -> None:
    package = tmp_path / above / "glideinwms_bosco"
    package.mkdir(parents=True)
    scripts = tmp_path / "share" / "gwms-bosco" / "validation_scripts"
    assert default_scripts_dir(package) == Path(sys.prefix) / "share" / "gwms-bosco" / "validation_scripts"
    scripts.mkdir(parents=True)
    assert default_scripts_dir(package) == scripts


def test_installation_carries_every_script_and_library() -> None:
    checkout = default_scripts_dir().parent
    setup = configparser.ConfigParser()
    setup.read(checkout / "setup.cfg")
    carried = {
        str(Path(folder).relative_to("share/gwms-bosco/validation_scripts") / path.name)
        for folder, pattern in setup["options.data_files"].items()
        for path in checkout.glob(pattern)
        if path.is_file()
    }
    assert carried == set(read_sources(checkout / "validation_scripts"))
