# SPDX-License-Identifier: Apache-2.0
"""How long 1,000 entries take from site files to entry XML. Needs neither root nor a lab."""

from __future__ import annotations

import compileall
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from glideinwms_bosco.cli.checks import checked_sites
from glideinwms_bosco.entry.render import render_site
from glideinwms_bosco.site.load import load_sites
from glideinwms_bosco.site.schema import schema_problems
from glideinwms_bosco.site.yaml_source import YamlSource
from tests.bench.figures import BenchError, Figure, Section, timed
from tests.bench.site_files import write_site_files
from tests.lab.process import communicate
from tests.lab.settings import CHECKOUT

ENTRIES = 1000
SITES = 100
TARGET = "target: < 2 s"
ROUNDS = 3
SPLIT_ROUNDS = 2
DEADLINE_S = 120.0
PACKAGE = "glideinwms_bosco"

Item = TypeVar("Item")
Result = TypeVar("Result")


def _install(folder: Path) -> Mapping[str, str]:
    """Copy the package with compiled files, as an installed one has; return the environment that finds it."""
    shutil.copytree(CHECKOUT / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(folder, quiet=1)
    settings = folder / "settings.yaml"
    settings.touch()
    return {**os.environ, "PYTHONPATH": str(folder), "GWMS_BOSCO_CONFIG": str(settings)}


def _command(env: Mapping[str, str], *args: str) -> None:
    # -P, with which the checkout would not be found first, needs Python 3.11: the folder is changed instead.
    argv = ["env", "-C", env["PYTHONPATH"], sys.executable, "-m", f"{PACKAGE}.cli.main", *args]
    done = communicate(argv, timeout=DEADLINE_S, env=env)
    if done.returncode:
        raise BenchError(f"gwms-bosco {' '.join(args)}: exit status {done.returncode}\n{done.stderr}")


def _start(env: Mapping[str, str]) -> float:
    return timed(lambda: _command(env, "--version"))[0]


def _cold(env: Mapping[str, str], sites_dir: Path, output: Path) -> float:
    """Time one `entry render` of all site files into a fresh folder (s)."""
    output.mkdir()
    try:
        here = {**env, "GWMS_BOSCO_SITES": str(sites_dir)}
        took_s, _ = timed(lambda: _command(here, "entry", "render", "--output", str(output)))
        entries = sum(path.read_text(encoding="utf-8").count("<entry ") for path in output.iterdir())
    finally:
        shutil.rmtree(output)
    if entries != ENTRIES:
        raise BenchError(f"{entries} entries were rendered, not {ENTRIES}")
    return took_s


def _split(paths: list[Path]) -> tuple[Figure, ...]:
    """The parts of the work, in this process."""
    parts: dict[str, list[float]] = {}

    def part(what: str, call: Callable[[], Result]) -> Result:
        took_s, result = timed(call)
        parts.setdefault(what, []).append(took_s)
        return result

    for _ in range(SPLIT_ROUNDS):
        sites, _warnings = part("  load: YAML, schema, model, cross checks", lambda: load_sites(paths))
        sources = part("    of it YAML", lambda: [YamlSource(path) for path in paths])
        part("    of it JSON Schema", partial(_all, schema_problems, sources))
        part("  load, all checks, render", lambda: checked_sites(paths))
        part("  render, to memory", partial(_all, render_site, sites))
    return tuple(Figure(what, values) for what, values in parts.items())


def _all(call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [call(item) for item in items]


def measure() -> Section:
    """Measure the command cold, and its parts in one process.

    Raises:
        BenchError: the command failed or did not render everything.
    """
    with tempfile.TemporaryDirectory(prefix="gwms-bench-") as name:
        folder = Path(name)
        env = _install(folder)
        many, one, output = folder / "many", folder / "one", folder / "output"
        many.mkdir()
        one.mkdir()
        paths = write_site_files(many, SITES, ENTRIES // SITES)
        write_site_files(one, 1, ENTRIES)
        figures = (
            Figure(f"entry render, {SITES} site files", [_cold(env, many, output) for _ in range(ROUNDS)], note=TARGET),
            Figure("  start-up alone (--version)", [_start(env) for _ in range(ROUNDS)]),
            *_split(paths),
            Figure(
                "entry render, all in 1 site file", [_cold(env, one, output) for _ in range(SPLIT_ROUNDS)], note=TARGET
            ),
        )
    return Section(f"{ENTRIES} entries, on this machine (Python {platform.python_version()})", figures)
