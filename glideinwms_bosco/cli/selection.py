# SPDX-License-Identifier: Apache-2.0
"""From what the operator typed (files, `SITE`, `SITE:ACCOUNT`, `--key`) to checked objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glideinwms_bosco.cli.checks import Checked, checked_sites
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.errors import SiteError, UsageError
from glideinwms_bosco.site.model import Account, SiteDescription


def site_files(settings: Settings) -> tuple[Path, ...]:
    """All site files of the host, sorted; empty when there are none."""
    try:
        return tuple(sorted(path for path in settings.sites_dir.iterdir() if _is_site_file(path)))
    except FileNotFoundError:
        return ()
    except OSError as err:
        raise UsageError(
            f"{settings.sites_dir}: cannot be read: {err.strerror}", "check its permissions, or set GWMS_BOSCO_SITES"
        ) from None


def _is_site_file(path: Path) -> bool:
    """Editors keep locks and copies under names with a dot in front."""
    return path.suffix == ".yaml" and not path.name.startswith(".")


def expected_files(settings: Settings) -> frozenset[str]:
    """Names of the files in config.d that the site files of the host are rendered to, broken ones too."""
    return frozenset(f"{settings.order:02d}-{path.stem}.xml" for path in site_files(settings))


def find_site_file(name: str, settings: Settings) -> Path:
    """The file of a site: a path, or a short name that stands in the sites folder.

    Raises:
        UsageError: no such site.
    """
    if "/" in name or name.endswith(".yaml"):
        return Path(name)
    known = {path.stem: path for path in site_files(settings)}
    if name in known:
        return known[name]
    raise UsageError(f"no site {name[:80]!r} in {settings.sites_dir}", f"known sites: {', '.join(known) or 'none'}")


def select_sites(
    names: Sequence[str], settings: Settings, *, host_files: bool = False, entries: bool = True
) -> Checked:
    """Check the named sites, or all of the host when none is named.

    Args:
        names: files or short names.
        settings: of the host.
        host_files: whether what the host itself adds to their bundles is checked too; it has no part in their entries.
        entries: whether what their entries need besides the site files is read too.

    Raises:
        UsageError: there is no such site, or none at all.
        SiteFileError: with all problems.
    """
    everything = site_files(settings)
    paths = [find_site_file(name, settings) for name in names] or list(everything)
    if not paths:
        raise UsageError(f"no site file (*.yaml) in {settings.sites_dir}", "name a file, or set GWMS_BOSCO_SITES")
    return checked_sites(paths, everything, settings if host_files else None, settings if entries else None)


def select_site(name: str, settings: Settings) -> SiteDescription:
    """Check one named site, for what goes to its login host; what its entries bring along is not looked at.

    Raises:
        UsageError: there is no such site.
        SiteFileError: with all problems.
        SiteError: its entries are somebody else's, so there is no login host.
    """
    (site,) = checked_sites([find_site_file(name, settings)], site_files(settings)).sites
    if site.external:
        site.required_login()
    return site


def split_account(name: str) -> tuple[str, str]:
    """`SITE:ACCOUNT` to its parts; the account is empty for `SITE`."""
    # A path may have a colon of its own; an account's name has none.
    site, _, account = (name, "", "") if Path(name).is_file() else name.rpartition(":")
    return (site, account) if site else (account, "")


def find_account(name: str, settings: Settings) -> tuple[SiteDescription, Account]:
    """`SITE` or `SITE:ACCOUNT` to one account of a checked site.

    Raises:
        UsageError: unknown, or the site has several accounts and none is named.
        SiteFileError: the site file has problems.
        SiteError: it names no login host yet.
    """
    site_name, account_name = split_account(name)
    site = select_site(site_name, settings)
    site.required_login()
    if not account_name and len(site.accounts) > 1:
        names = ", ".join(f"{site_name}:{account.name}" for account in site.accounts)
        raise UsageError(f"site {site_name} has several accounts", f"name one of: {names}; or all: '{site_name}:*'")
    try:
        return site, site.account(account_name) if account_name else site.accounts[0]
    except SiteError as err:
        raise UsageError(err.message, err.hint) from None
