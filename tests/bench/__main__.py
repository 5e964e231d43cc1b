# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench [--json]`: print the figures. Exit status 1 only if something did not work."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Generator, Sequence
from typing import Optional

from glideinwms_bosco.errors import BoscoError
from tests.bench import bundles, fleet, installing, jobs, ladder, linting, payload, probing, rendering, signing, tunnel
from tests.bench.figures import BenchError, Figure, Section, table, timed
from tests.bench.workplace import Workplace
from tests.lab.lab import Lab
from tests.lab.rootfs import rootfs_path
from tests.lab.settings import BASE_HOSTS, LabError

NO_ROOT = (
    "ladder, payload, tunnel, bundle, deploy, redeploy, fleet, job and lab are not measured: they need root, for mounts"
)


def _lab_sections() -> Generator[Section, None, None]:
    """Measure what needs the lab; it is taken down whatever happens.

    Raises:
        LabError, BenchError: something did not work.
    """
    lab = Lab(f"gwmsbench{os.getpid()}")
    try:
        if not all(rootfs_path(lab.settings, lab.settings.recipe(host)).exists() for host in BASE_HOSTS):
            lab.up()
            lab.down()
        up_s, _ = timed(lab.up)
        yield Section(f"Lab, {len(BASE_HOSTS)} hosts, profile {lab.profile}", (Figure("up, from the cache", [up_s]),))
        place = Workplace(lab)
        place.prepare()
        built, start_s = bundles.measure(place)
        yield built
        yield installing.first(place, start_s, built.figures[2].value)
        yield installing.again(place)
        yield probing.measure(place)
        yield fleet.measure(place)
        yield jobs.measure(place)
    finally:
        lab.down()


def _sections() -> Generator[Section, None, None]:
    yield rendering.measure()
    yield linting.measure()
    yield from signing.measure()
    if os.geteuid() == 0:
        yield ladder.measure()
        yield payload.measure()
        yield from tunnel.measure()
        yield from _lab_sections()


def main(args: Optional[Sequence[str]] = None) -> int:
    """Measure, print each section as it comes, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measurements, as ratios.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    as_json = parser.parse_args(args).json
    report = {}
    try:
        # Closed at once also when interrupted while printing: closing takes the lab down.
        with contextlib.closing(_sections()) as sections:
            for section in sections:
                report[section.title] = [figure.as_json() for figure in section.figures]
                if not as_json:
                    print(table(section), flush=True)
    except (LabError, BenchError, BoscoError) as error:
        print(f"bench failed: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(report, indent=1))
    if os.geteuid() != 0:
        print(NO_ROOT, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
