# SPDX-License-Identifier: Apache-2.0
"""From what the operator typed (files, `SITE`, `SITE:ACCOUNT`) to checked site descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glideinwms_bosco.bundle import site_request
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.entry.render import render_site
from glideinwms_bosco.entry.submit import submit_problems
from glideinwms_bosco.errors import BundleError, Problem, RemoteError, SiteFileError, UsageError
from glideinwms_bosco.remote.connection import Endpoint
from glideinwms_bosco.remote.factory_ssh import FactorySsh, render_factory_ssh
from glideinwms_bosco.remote.site_connection import jump_endpoints, login_endpoint
from glideinwms_bosco.site.load import load_sites
from glideinwms_bosco.site.model import Account, SiteDescription


def site_files(settings: Settings) -> tuple[Path, ...]:
    """All site files of the host, sorted.

    Raises:
        UsageError: there are none.
    """
    found = tuple(sorted(settings.sites_dir.glob("*.yaml")))
    if not found:
        raise UsageError(f"no site file (*.yaml) in {settings.sites_dir}", "name a file, or set GWMS_BOSCO_SITES")
    return found


def find_site_file(name: str, settings: Settings) -> Path:
    """The file of a site: a path, or a short name that stands in the sites folder.

    Raises:
        UsageError: no such site.
    """
    if "/" in name or name.endswith(".yaml"):
        return Path(name)
    path = settings.sites_dir / f"{name}.yaml"
    if path.exists():
        return path
    known = ", ".join(sorted(file.stem for file in settings.sites_dir.glob("*.yaml"))) or "none"
    raise UsageError(f"no site {name!r} in {settings.sites_dir}", f"known sites: {known}")


@dataclass(frozen=True)
class Checked:
    """Sites that passed every check, the warnings, and the entry XML of each site, in the same order."""

    sites: tuple[SiteDescription, ...]
    warnings: tuple[Problem, ...]
    entry_xml: tuple[bytes, ...]


def checked_sites(paths: Sequence[Path]) -> Checked:
    """Load site files and run every check that touches nothing: fields, batch system, entry XML, ssh configuration.

    Raises:
        SiteFileError: with all problems of all files.
        RemoteError: two sites contradict each other about one host.
    """
    sites, warnings = load_sites(paths)
    problems = list(warnings)
    for site in sites:
        problems.extend(submit_problems(site))
        problems.extend(_host_key_problems(site))
        problems.extend(_bundle_problems(site))
    if any(problem.severity == "error" for problem in problems):
        raise SiteFileError(tuple(problems))
    factory_ssh(sites, Path("/known_hosts"))
    return Checked(sites, tuple(problems), tuple(render_site(site) for site in sites))


def factory_ssh(sites: Sequence[SiteDescription], known_hosts: Path) -> FactorySsh:
    """The ssh client configuration of the factory for all sites that have pinned host keys.

    Raises:
        RemoteError: two sites contradict each other about one host.
    """
    ways: list[tuple[Endpoint, tuple[Endpoint, ...]]] = []
    for site in sites:
        if site.login.host_keys and all(jump.host_keys for jump in site.login.jump_hosts):
            ways += [(login_endpoint(site, account), jump_endpoints(site, account)) for account in site.accounts]
    return render_factory_ssh(ways, known_hosts)


def _host_key_problems(site: SiteDescription) -> list[Problem]:
    """Keys of the right form that are no keys: only decoding finds them."""
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


def _bundle_problems(site: SiteDescription) -> list[Problem]:
    """Settings of blah.config that the bundle makes itself, or that blahp could not read."""
    try:
        site_request(site)
    except BundleError as err:
        return [Problem(site.file, site.line("batch.settings"), "batch.settings", err.message, err.hint)]
    return []


def find_account(name: str, settings: Settings) -> tuple[SiteDescription, Account]:
    """`SITE` or `SITE:ACCOUNT` to one account of a checked site.

    Raises:
        UsageError: unknown, or the site has several accounts and none is named.
        SiteFileError: the site file has problems.
    """
    site_name, _, account_name = name.partition(":")
    site = checked_sites([find_site_file(site_name, settings)]).sites[0]
    if not account_name and len(site.accounts) > 1:
        names = ", ".join(f"{site_name}:{account.name}" for account in site.accounts)
        raise UsageError(f"site {site_name} has several accounts", f"name one of: {names}")
    return site, site.account(account_name) if account_name else site.accounts[0]
