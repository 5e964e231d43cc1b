# SPDX-License-Identifier: Apache-2.0
"""Runs inside the factory host, with its Python: times building a bundle without the start of the interpreter.

`python3 -m tests.bench.inside SITE_FILE ROUNDS` prints JSON: `build_s` and `pack_s`, seconds of each round.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from glideinwms_bosco.bundle import build_bundle
from glideinwms_bosco.cli.bundle import bundle_request
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.source import HTCondorSource
from tests.bench.figures import timed


def main(site_file: str, rounds: int) -> None:
    """Build and pack the site's bundle from the host's HTCondor and print how long each took."""
    request = bundle_request(load_site(Path(site_file))[0])
    build_s, pack_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            took_s, bundle = timed(lambda: build_bundle(HTCondorSource(root="/"), request))
            build_s.append(took_s)
            pack_s.append(timed(lambda found=bundle: found.write_archive(Path(folder, "bundle.tar.gz")))[0])  # type: ignore[misc]
    print(json.dumps({"build_s": build_s, "pack_s": pack_s}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
