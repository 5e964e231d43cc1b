# SPDX-License-Identifier: Apache-2.0
"""Runs inside the factory host, with its Python: times building a bundle without the start of the interpreter.

`python3 -m tests.bench.inside SITE_FILE ROUNDS` prints JSON: `build_s` and `pack_s`, seconds of each round.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.site.load import load_site
from tests.bench.figures import timed


def main(site_file: str, rounds: int) -> None:
    """Build and pack the site's bundle from the host's HTCondor and print how long each took."""
    settings, (site, _warnings) = load_settings(), load_site(Path(site_file))
    build_s, pack_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "bundle.tar.gz")
        for _ in range(rounds):
            took_s, (bundle, _choice) = timed(partial(SiteBundles(settings).get, site))
            build_s.append(took_s)
            pack_s.append(timed(partial(bundle.write_archive, archive))[0])
    print(json.dumps({"build_s": build_s, "pack_s": pack_s}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
