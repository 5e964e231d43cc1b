# SPDX-License-Identifier: Apache-2.0
"""Entry point of `gwms-bosco <noun> <verb>`: exit status 0 ok, 1 refused, 2 usage, 3 remote."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from glideinwms_bosco import __version__
from glideinwms_bosco.cli import bundle, egress, entry, pilot, remote, site, siteconf, web_proxy
from glideinwms_bosco.cli.frame import CommandParser, run_program


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; docs and man pages are generated from it too."""
    parser = CommandParser(
        prog="gwms-bosco",
        description="glideinWMS entries for sites that offer only ssh and a batch queue.",
        epilog="example: gwms-bosco site check /etc/gwms-bosco/sites.d/nersc.yaml",
    )
    parser.add_argument("--version", action="version", version=f"gwms-bosco {__version__}")
    nouns = parser.add_subparsers(metavar="NOUN", required=True)
    for module in (site, entry, pilot, siteconf, web_proxy, egress, bundle, remote):
        module.add_commands(nouns)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; every error becomes one line and an exit status."""
    return run_program(build_parser, argv)


if __name__ == "__main__":
    sys.exit(main())
