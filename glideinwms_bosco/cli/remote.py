# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote ...`: everything that concerns the login node."""

from __future__ import annotations

import argparse
from typing import Any

from glideinwms_bosco.cli import (
    output,
    remote_deploy,
    remote_logs,
    remote_probe,
    remote_status,
    remote_test,
    remote_versions,
)
from glideinwms_bosco.cli.checks import factory_ssh
from glideinwms_bosco.cli.frame import add_noun
from glideinwms_bosco.cli.selection import select_sites
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.errors import EXIT_OK
from glideinwms_bosco.remote.client_files import client_files, write_client_files


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = add_noun(nouns, "remote", "the login node: install, test", "gwms-bosco remote status")
    for module in (remote_deploy, remote_probe, remote_status, remote_logs, remote_test, remote_versions):
        module.add_commands(verbs)
    client = verbs.add_parser(
        "ssh-config",
        help="write the factory's ssh client configuration for all sites",
        epilog="example: gwms-bosco remote ssh-config",
    )
    client.add_argument("--stdout", action="store_true", help="print it, write nothing")
    client.set_defaults(run=_ssh_config)


def _ssh_config(args: argparse.Namespace) -> int:
    settings = load_settings()
    sites = select_sites((), settings, entries=False).sites
    config, known_hosts = client_files(settings.state_dir)
    files = factory_ssh(sites, known_hosts)
    if args.stdout:
        print(files.ssh_config, end="")
        return EXIT_OK
    changed = write_client_files(settings.state_dir, files)
    print(f"{'written' if changed else 'unchanged'}: {config} and {known_hosts} ({output.counted(len(sites), 'site')})")
    print(f"the schedd's user reads it by this first line of ~/.ssh/config:\n  Include {config}")
    return EXIT_OK
