# SPDX-License-Identifier: Apache-2.0
"""One remote command over one account or many: which accounts are meant, what each one's work gave, how it is shown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.selection import find_account
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.errors import EXIT_OK, EXIT_REMOTE, UsageError
from glideinwms_bosco.remote.key_file import check_key_file
from glideinwms_bosco.remote.site_connection import site_connection
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.model import Account, SiteDescription


@dataclass(frozen=True)
class Target:
    """One account of a site, and what to log in with.

    Attributes:
        site, account: checked descriptions.
        key: absolute path of the private key, None for the keys of the caller's agent.
    """

    site: SiteDescription
    account: Account
    key: Optional[Path]

    @property
    def label(self) -> str:
        """`SITE:ACCOUNT`."""
        return f"{self.site.short_name}:{self.account.name}"

    def session(self) -> SshSession:
        """A session to the login node, not open yet."""
        return SshSession(site_connection(self.site, self.account, self.key), self.site.short_name)


@dataclass(frozen=True)
class Outcome:
    """What the work on one account gave.

    Attributes:
        headline: the result in one short line.
        lines: what else there is to say, for one account shown alone.
        report: the same for `--json`.
        ok: False when the work ended as it should but found something that makes the command fail (drift, say).
    """

    headline: str
    lines: tuple[str, ...]
    report: Mapping[str, Any]
    ok: bool = True


Work = Callable[[Target, output.Advance], Outcome]
"""Does one account; raises a BoscoError when it cannot. Called from several threads for several accounts."""


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Options that say on which accounts a command works."""
    parser.add_argument("account", metavar="SITE[:ACCOUNT]", help="short name or file of the site, and account")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key; the keys of your agent when left out")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run_targets(args: argparse.Namespace, settings: Settings, progress: str, work: Work) -> int:
    """Do the work on every account that the options name, show what it gave, and return the exit status.

    Args:
        args: has what `add_target_options` has added.
        settings: of the host.
        progress: title of a progress bar for bytes.
        work: for one account.
    """
    site, account = find_account(args.account, settings)
    target = Target(site, account, key_path(args.key))
    with output.byte_progress(progress) as advance:
        outcome = work(target, advance)
    if args.json:
        output.print_json(outcome.report)
    else:
        for line in (outcome.headline, *outcome.lines):
            print(output.printable(line))
    return EXIT_OK if outcome.ok else EXIT_REMOTE


def key_path(key: Optional[Path], *, allow_agent_key: bool = True) -> Optional[Path]:
    """The key's absolute path, None for the agent's keys.

    Raises:
        UsageError: ssh could not use it without asking.
    """
    if key is None:
        return None
    try:
        path = key.expanduser().absolute()
    except RuntimeError as err:
        raise UsageError(f"--key {key}: {err}", "name the private key of the account") from None
    check_key_file(path, allow_agent_key=allow_agent_key)
    return path
