# SPDX-License-Identifier: Apache-2.0
"""How long a bundle takes to build, as a command and in one process."""

from __future__ import annotations

import json

from tests.bench.figures import Figure, Section
from tests.bench.workplace import COMMAND, DEADLINE_S, FOLDER, SITE, SITE_FILE, Workplace
from tests.lab.operator import USER
from tests.lab.settings import CHECKOUT_IN_HOST

ROUNDS = 5
ARCHIVE = f"{FOLDER}/bundle.tar.gz"


def measure(place: Workplace) -> tuple[Section, float]:
    """Measure start-up and build.

    Returns:
        The figures, and the median start-up time of the command (s).

    Raises:
        LabError: a command failed.
    """
    start = Figure(
        "gwms-bosco --version: start-up", [place.measure([COMMAND, "--version"]).seconds for _ in range(ROUNDS)]
    )
    build = [COMMAND, "bundle", "build", SITE.name, "--output", ARCHIVE]
    whole = Figure("bundle build, the command", [place.measure(build).seconds for _ in range(ROUNDS)])
    argv = ["python3", "-m", "tests.bench.inside", SITE_FILE, str(ROUNDS)]
    env = {"PYTHONPATH": CHECKOUT_IN_HOST, "PYTHONDONTWRITEBYTECODE": "1"}
    parts = json.loads(place.lab.run("factory", argv, user=USER, env=env, timeout=DEADLINE_S).stdout)
    figures = (
        start,
        whole,
        Figure("  build, in one process", parts["build_s"]),
        Figure("  pack and write the archive, likewise", parts["pack_s"]),
    )
    version = place.lab.run("factory", ["python3", "--version"]).stdout.strip()
    return Section(f"Bundle, in the factory host ({version})", figures), start.value
