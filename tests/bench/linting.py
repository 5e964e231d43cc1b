# SPDX-License-Identifier: Apache-2.0
"""How long `entry lint` takes over a configuration of 1,000 entries, and how much memory. Needs no root, no lab."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from glideinwms_bosco.entry.render import file_name, render_site
from glideinwms_bosco.site.load import load_sites
from tests.bench.figures import BenchError, Figure, Section, timed
from tests.bench.site_files import write_site_files
from tests.lab.process import communicate
from tests.lab.settings import CHECKOUT

ENTRIES = 1000
SITES = 100
ROUNDS = 3
TARGET_TIME = "target: < 3 s"
TARGET_MEMORY = "target: < 300 MiB"
DEADLINE_S = 120.0
# Its own peak: ru_maxrss would include that of the process it was forked from.
_SCRIPT = """
import argparse, re, sys
from pathlib import Path
from glideinwms_bosco.cli.entry_lint import add_lint
parser = argparse.ArgumentParser()
add_lint(parser.add_subparsers())
args = parser.parse_args(["lint", "--json", sys.argv[1]])
status = args.run(args)
peak = re.search(r"VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())
print(int(peak[1]) / 1024, file=sys.stderr)
sys.exit(status)
"""


def _run(folder: Path) -> float:
    """Lint a folder in a process of its own; return the peak of its memory (MiB)."""
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = communicate([sys.executable, "-c", _SCRIPT, str(folder)], timeout=DEADLINE_S, env=env)
    if done.returncode:
        raise BenchError(f"entry lint: exit status {done.returncode}\n{done.stderr}")
    return float(done.stderr)


def _rounds(title: str, folder: Path) -> tuple[Figure, Figure]:
    results = [timed(lambda: _run(folder)) for _ in range(ROUNDS)]
    return (
        Figure(title, [took_s for took_s, _ in results], note=TARGET_TIME),
        Figure("  peak of memory", [mib for _, mib in results], unit="MiB", note=TARGET_MEMORY),
    )


def measure() -> Section:
    """Measure the command cold, over many files and over one.

    Raises:
        BenchError: the command failed, or found errors.
    """
    with tempfile.TemporaryDirectory(prefix="gwms-bench-") as name:
        figures: list[Figure] = []
        for title, sites in ((f"entry lint, {SITES} files of config.d", SITES), ("entry lint, all in 1 file", 1)):
            source, folder = Path(name) / f"sites-{sites}", Path(name) / f"config-{sites}"
            source.mkdir()
            folder.mkdir()
            described, _warnings = load_sites(write_site_files(source, sites, ENTRIES // sites))
            for site in described:
                (folder / file_name(site, 0)).write_bytes(render_site(site))
            figures += _rounds(title, folder)
    return Section(f"{ENTRIES} entries to check, on this machine (Python {platform.python_version()})", tuple(figures))
