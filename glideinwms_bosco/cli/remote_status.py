# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco remote status`: all accounts at a glance."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.fleet import Result
from glideinwms_bosco.cli.relay_keys import credential_text
from glideinwms_bosco.cli.remote_verb import Outcome, Target, add_target_options, run_targets
from glideinwms_bosco.cli.settings import Settings, load_settings
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.cli.status_table import describe, print_status
from glideinwms_bosco.cli.web_proxies import overview, print_states, state_lines
from glideinwms_bosco.errors import BoscoError
from glideinwms_bosco.remote.history import History
from glideinwms_bosco.remote.pilots import Pilots, Place, account_place, count_pilots, count_running, query_pilots
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.status import AccountStatus, last_events, look
from glideinwms_bosco.site.model import SiteDescription


def add_commands(verbs: Any) -> None:
    """Add the verb."""
    status = verbs.add_parser(
        "status",
        help="show every account: reachable, bundle, last deploy, probe and test, pilots; and the load of web proxies",
        epilog="example: gwms-bosco remote status 'nersc*' --no-connect",
    )
    add_target_options(status)
    status.add_argument("--no-connect", action="store_true", help="do not log in: only what is known here")
    status.set_defaults(run=_status)


class _Asked:
    """What is asked once for all accounts."""

    def __init__(self, settings: Settings) -> None:
        self.history = History(settings.state_dir)
        self.bundles = SiteBundles(settings)
        self.pilots: Optional[Mapping[Place, Pilots]] = None
        self.pilots_problem: Optional[str] = None
        running = None
        try:
            ads = query_pilots()
            self.pilots, running = count_pilots(ads), count_running(ads)
        except BoscoError as error:
            self.pilots_problem = error.message
        self.proxies = overview(settings, running)


def _status(args: argparse.Namespace) -> int:
    settings = load_settings()
    if not args.targets and not args.retry_failed:
        args.all = True
    asked = _Asked(settings)
    found: dict[str, AccountStatus] = {}

    def work(target: Target, _advance: output.Advance) -> Outcome:
        status = _account_status(target, asked, connect=not args.no_connect)
        found[target.label] = status
        proxies = asked.proxies.of(target.site.short_name)
        report = {**status.as_json(), "web_proxies": [state.as_json() for state in proxies]}
        lines = (*describe(status), *state_lines(proxies, asked.proxies.notes if proxies else ()))
        return Outcome(target.label, lines, report, status.reachable is not False)

    def show(results: Sequence[Result]) -> None:
        print_status([(result.label, found.get(result.label), result.sentence) for result in results])
        print_states(asked.proxies.states, asked.proxies.notes)

    return run_targets(args, settings, "asking", work, record=False, show=show)


@dataclass(frozen=True)
class _Wanted:
    """Digest of the bundle that the site file gives, or why that is not known."""

    digest: Optional[str] = None
    problem: Optional[str] = None


def _wanted(site: SiteDescription, asked: _Asked, session: Optional[SshSession]) -> _Wanted:
    try:
        if session is not None:
            return _Wanted(asked.bundles.get_for(session, site)[0].digest)
        if asked.bundles.depends_on_machine(site):
            return _Wanted(problem="which of several HTCondor sources fits, only the login node can say")
        return _Wanted(asked.bundles.get(site)[0].digest)
    except BoscoError as error:
        return _Wanted(problem=str(error))


def _account_status(target: Target, asked: _Asked, *, connect: bool) -> AccountStatus:
    installed, problem, wanted, site_pilots = None, None, None, None
    if connect:
        try:
            with target.session() as session:
                installed, site_pilots = look(session, target.site.install.folder)
                wanted = _wanted(target.site, asked, session)
        except BoscoError as error:
            problem = str(error)
    if wanted is None:
        wanted = _wanted(target.site, asked, None)
    pilots = None if asked.pilots is None else asked.pilots.get(account_place(target.site, target.account), Pilots())
    return AccountStatus(
        reachable=problem is None if connect else None,
        problem=problem,
        installed=installed,
        wanted=wanted.digest,
        wanted_problem=wanted.problem,
        last=last_events(asked.history, target.site.short_name, target.account.name),
        pilots=pilots,
        pilots_problem=asked.pilots_problem,
        credential=credential_text(target.site, target.account),
        site_pilots=site_pilots,
    )
