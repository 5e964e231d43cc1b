# SPDX-License-Identifier: Apache-2.0
"""Every check of site files that touches nothing: fields, batch system, bundle, entry XML, ssh configuration.

Named sites are checked beside all others of the host: an entry name or a host key that clashes with a site which was
not named does the same harm.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.bundle import site_request
from glideinwms_bosco.bundle.overrides import read_overrides
from glideinwms_bosco.cli.job_wrapper import job_wrapper
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.cli.surroundings import proxy_budget, surroundings
from glideinwms_bosco.entry.render import render_site
from glideinwms_bosco.entry.submit import submit_problems
from glideinwms_bosco.errors import BundleError, EgressError, PilotError, Problem, RemoteError, SiteFileError
from glideinwms_bosco.pilot.plan import PilotFile, PilotPlan
from glideinwms_bosco.remote.connection import Endpoint
from glideinwms_bosco.remote.factory_ssh import FactorySsh, render_factory_ssh
from glideinwms_bosco.remote.site_connection import jump_endpoints, login_endpoint
from glideinwms_bosco.site.crosscheck import check_together
from glideinwms_bosco.site.load import load_site, load_sites
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.webproxy.budget import Budget, ProxyLoad

_ANYWHERE = Path("/known_hosts")
"""A path for configurations that are rendered only to see whether they can be."""


@dataclass(frozen=True)
class Checked:
    """Sites that passed every check, the warnings, and the entry XML of each site, in the same order.

    Attributes:
        beside: the other sites of the host, as far as they could be read.
        plans: what pilots of each site bring along, in the same order.
        proxy_loads: of the web proxies that these sites name.
    """

    sites: tuple[SiteDescription, ...]
    warnings: tuple[Problem, ...]
    entry_xml: tuple[bytes, ...]
    beside: tuple[SiteDescription, ...] = ()
    plans: tuple[PilotPlan, ...] = ()
    proxy_loads: tuple[ProxyLoad, ...] = ()

    @property
    def pilot_files(self) -> tuple[PilotFile, ...]:
        """What the entry XML names, each once."""
        return tuple({file.stored_name: file for plan in self.plans for file in plan.files}.values())

    def entries(self) -> frozenset[str]:
        """Names of all entries in site files."""
        return frozenset(entry.name for site in (*self.sites, *self.beside) for entry in site.entries)


def checked_sites(
    paths: Sequence[Path],
    beside: Iterable[Path] = (),
    settings: Optional[Settings] = None,
    factory: Optional[Settings] = None,
) -> Checked:
    """Load and check site files.

    Args:
        paths: the files.
        beside: other site files of the host; what is wrong with them alone is not reported here.
        settings: of the host, which may add to the sites' bundles; None: it adds nothing.
        factory: settings of the host whose factory gets the entries; None: it gets none now, so what pilots bring
            along is not read, and external entries are not looked up.

    Raises:
        SiteFileError: with all problems of all files.
    """
    sites, warnings = load_sites(paths)
    problems = list(warnings)
    for site in sites:
        problems.extend((*submit_problems(site), *_host_key_problems(site), *_bundle_problems(site, settings)))
    if any(problem.severity == "error" for problem in problems):
        raise SiteFileError(tuple(dict.fromkeys(problems)))
    others = _loadable(beside, paths)
    named = {site.file for site in sites}
    problems += [problem for problem in check_together([*others, *sites]) if problem.file in named]
    problems += _ssh_problems(sites, others)
    if any(problem.severity == "error" for problem in problems):
        raise SiteFileError(tuple(dict.fromkeys(problems)))
    proxies = Budget() if factory is None else proxy_budget([*others, *sites], factory)
    problems += [problem for problem in proxies.problems if problem.file in named]
    around = [surroundings(site, factory, proxies.spread_of(site)) for site in sites]
    problems += [problem for _, found in around for problem in found]
    if any(problem.severity == "error" for problem in problems):
        raise SiteFileError(tuple(dict.fromkeys(problems)))
    xml = tuple(render_site(site, here) for site, (here, _) in zip(sites, around))
    plans = tuple(here.plan for here, _ in around)
    loads = proxies.loads_of(site.short_name for site in sites)
    return Checked(sites, tuple(problems), xml, tuple(others), plans, loads)


def factory_ssh(sites: Iterable[SiteDescription], known_hosts: Path) -> FactorySsh:
    """The ssh client configuration of the factory for all sites that have pinned host keys.

    Raises:
        RemoteError: two ways contradict each other about one host.
    """
    ways: list[tuple[Endpoint, tuple[Endpoint, ...]]] = []
    for site in sites:
        if site.login and site.login.host_keys and all(jump.host_keys for jump in site.login.jump_hosts):
            ways += [(login_endpoint(site, account), jump_endpoints(site, account)) for account in site.accounts]
    return render_factory_ssh(ways, known_hosts)


def _loadable(beside: Iterable[Path], paths: Sequence[Path]) -> list[SiteDescription]:
    """The sites that are not named, as far as they can be read; a broken one is reported when it is named."""
    named = {os.path.realpath(path) for path in paths}
    sites = []
    for path in beside:
        if os.path.realpath(path) in named:
            continue
        try:
            site = load_site(path)[0]
        except SiteFileError:
            continue
        if not _host_key_problems(site):
            sites.append(site)
    return sites


def _ssh_problems(sites: Sequence[SiteDescription], others: Sequence[SiteDescription]) -> list[Problem]:
    """Find hosts that two sites describe differently; ssh has one set of pinned keys and one way per host."""
    problems = []
    by_host: dict[str, list[SiteDescription]] = {}
    for site in [*others, *sites]:
        if site.login is None:
            continue
        hosts = {site.login.host.lower(), *(jump.host.lower() for jump in site.login.jump_hosts)}
        neighbours = {other.file: other for host in hosts for other in by_host.get(host, ())}
        for other in (None, *neighbours.values()):
            try:
                factory_ssh([site] if other is None else [other, site], _ANYWHERE)
            except RemoteError as err:
                beside = f" (the other is in {other.file}:{other.line('login')})" if other else ""
                if site in sites:
                    message = f"{err.message}{beside}"
                    problems.append(Problem(site.file, site.line("login"), "login", message, err.hint))
                break
        for host in hosts:
            by_host.setdefault(host, []).append(site)
    return problems


def _host_key_problems(site: SiteDescription) -> list[Problem]:
    """Keys of the right form that are no keys: only decoding finds them."""
    if site.login is None:
        return []
    problems = []
    stops = [("login", site.login.host, site.login.port, site.login.host_keys)]
    stops += [
        (f"login.jump_hosts[{i}]", jump.host, jump.port, jump.host_keys) for i, jump in enumerate(site.login.jump_hosts)
    ]
    for where, host, port, keys in stops:
        for i, key in enumerate(keys):
            try:
                Endpoint(host, port, "nobody", (key,))
            except RemoteError as err:
                field = f"{where}.host_keys[{i}]"
                problems.append(Problem(site.file, site.line(field), field, err.message, err.hint))
    return problems


def _bundle_problems(site: SiteDescription, settings: Optional[Settings]) -> list[Problem]:
    """What cannot be put into the bundle: files laid over it, settings that it makes itself or blahp could not read."""
    if site.external:
        return []
    files, problems = read_overrides(site, settings.overrides_dir if settings is not None else None)
    if problems:
        return list(problems)
    host_settings = settings.host_settings(site.batch.system) if settings is not None else ()
    try:
        site_request(site, host_settings, files, job_wrapper(site, settings))
    except (BundleError, EgressError, PilotError) as err:
        field = "batch.settings" if isinstance(err, BundleError) else "network"
        return [Problem(site.file, site.line(field), field, err.message, err.hint)]
    return []
