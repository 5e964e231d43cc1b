# SPDX-License-Identifier: Apache-2.0
"""Before a reconfig entries are rendered and linted; on any error the last good files stay and one line says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.site_text import write_site

ROOT = Path(__file__).parents[2]
HOOK = ROOT / "factory_configs" / "hooks.reconfig.pre" / "50-gwms-bosco"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Folders of a factory, the hook's `gwms-bosco` and a `logger` that writes to a file."""
    for name in ("sites.d", "config.d", "state", "bin"):
        (tmp_path / name).mkdir()
    command = tmp_path / "bin" / "gwms-bosco"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m glideinwms_bosco.cli.main "$@"\n')
    logger = tmp_path / "bin" / "logger"
    logger.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/syslog\n')
    for program in (command, logger):
        program.chmod(0o755)
    return tmp_path


def run_hook(host: Path) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": f"{host}/bin:{os.environ['PATH']}",
        "GWMS_BOSCO_SITES": str(host / "sites.d"),
        "GWMS_BOSCO_CONFIG_D": str(host / "config.d"),
        "GWMS_BOSCO_STATE": str(host / "state"),
    }
    return subprocess.run([str(HOOK)], capture_output=True, text=True, check=False, env=env, timeout=60)


def files(host: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (host / "config.d").iterdir()}


def test_good_sites_are_rendered_in_silence(host: Path) -> None:
    write_site(host / "sites.d")
    done = run_hook(host)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(files(host)) == ["50-test.xml"]


def test_what_is_disabled_by_a_lost_site_file_is_told(host: Path) -> None:
    write_site(host / "sites.d")
    write_site(host / "sites.d", "Test_Entry", "Other_Entry", "other")
    run_hook(host)
    (host / "sites.d" / "other.yaml").unlink()
    done = run_hook(host)
    assert done.returncode == 0
    assert done.stderr.startswith("gwms-bosco: kept disabled: Other_Entry has left its site file")
    assert "kept disabled: Other_Entry" in (host / "syslog").read_text()


def test_no_sites_at_all_is_silence(host: Path) -> None:
    done = run_hook(host)
    assert (done.returncode, done.stderr) == (0, "")


def test_bad_site_leaves_the_last_good_files_and_one_line(host: Path) -> None:
    write_site(host / "sites.d")
    run_hook(host)
    before = files(host)
    path = write_site(host / "sites.d", "cpus: 8\n    memory_mb: 16000\n", "cpus: x\n    memory_mb: y\n")
    done = run_hook(host)
    assert done.returncode == 1
    assert files(host) == before
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"gwms-bosco: entries not updated, the last good files stay: {path}:14: error: ")
    assert "(and 1 more: " in line


def test_the_line_is_an_error_where_another_site_has_warnings(host: Path) -> None:
    write_site(host / "sites.d", "credential: broker", "credential: key_pair")
    path = write_site(host / "sites.d", "cpus: 8", "cpus: x", "zz")
    (line,) = run_hook(host).stderr.splitlines()
    assert line.startswith(f"gwms-bosco: entries not updated, the last good files stay: {path}:14: error: ")
    assert line in (host / "syslog").read_text()


def test_entry_that_lint_refuses_is_not_written(host: Path) -> None:
    """The site file is fine, the configuration with it is not: a global attribute contradicts the entry's."""
    write_site(host / "sites.d")
    run_hook(host)
    before = files(host)
    write_site(host / "sites.d", "cpus: 8\n", "cpus: 8\n    attrs: {GLIDEIN_SINGULARITY_REQUIRE: maybe}\n")
    done = run_hook(host)
    assert done.returncode == 1, done
    assert files(host) == before
    assert "GLIDEIN_SINGULARITY_REQUIRE" in done.stderr


def test_missing_program_is_one_line_too(host: Path) -> None:
    (host / "bin" / "gwms-bosco").unlink()
    done = run_hook(host)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
