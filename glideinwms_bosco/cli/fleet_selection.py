# SPDX-License-Identifier: Apache-2.0
"""Which accounts a remote command works on: names, shell-style patterns, all, or those it failed for last time.

With several accounts a broken site file makes its own site fail, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from glideinwms_bosco.cli.checks import checked_sites
from glideinwms_bosco.cli.selection import find_account, find_site_file, site_files, split_account
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.errors import BoscoError, SiteError, SiteFileError, UsageError
from glideinwms_bosco.site.model import Account, SiteDescription

_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class BrokenSite:
    """A site whose file cannot be used, and why."""

    name: str
    error: BoscoError


@dataclass(frozen=True)
class Selection:
    """What a command works on.

    Attributes:
        accounts: in the order of the command line, else of the files.
        broken: sites that were asked for and have no accounts to work on.
        left_out: sentences on what a pattern matched and nothing can be done for.
        single: one account was named as such, and is shown as such.
    """

    accounts: tuple[tuple[SiteDescription, Account], ...]
    broken: tuple[BrokenSite, ...] = ()
    left_out: tuple[str, ...] = ()
    single: bool = False


@dataclass(frozen=True)
class _Wish:
    """One word of the command line.

    Attributes:
        paths: files of the sites.
        account: name or pattern; empty: the only account.
        lenient: not all that the word stands for has to be usable.
        remembered: an earlier command has written the word down.
    """

    word: str
    paths: tuple[Path, ...]
    account: str
    lenient: bool = True
    remembered: bool = False


def select_named(words: Sequence[str], settings: Settings) -> Selection:
    """Accounts by names and patterns.

    Raises:
        UsageError: a word names nothing, or a site of several accounts without saying which.
        SiteFileError, SiteError: the one account named cannot be used.
    """
    if len(words) == 1 and not _is_pattern(words[0]):
        return Selection((find_account(words[0], settings),), single=True)
    return _select([_wish(word, settings) for word in words], settings)


def select_all(settings: Settings) -> Selection:
    """Every account of the host.

    Raises:
        UsageError: there is no site file.
    """
    paths = site_files(settings)
    if not paths:
        raise UsageError(f"no site file (*.yaml) in {settings.sites_dir}", "name a file, or set GWMS_BOSCO_SITES")
    return _select([_Wish("--all", paths, "*")], settings)


def select_labels(labels: Sequence[str], settings: Settings) -> Selection:
    """Accounts that an earlier command has written down; those that no longer exist are left out."""
    known = {path.stem: path for path in site_files(settings)}
    wishes, gone = [], []
    for label in labels:
        site, _, account = label.partition(":")
        if site in known:
            wishes.append(_Wish(label, (known[site],), account or "*", remembered=True))
        else:
            gone.append(f"{label}: there is no such site any more")
    found = _select(wishes, settings)
    return Selection(found.accounts, found.broken, (*gone, *found.left_out))


def _is_pattern(word: str) -> bool:
    return not Path(word).is_file() and any(character in _GLOB for character in word)


def _wish(word: str, settings: Settings) -> _Wish:
    site, account = split_account(word)
    if not _is_pattern(word):
        return _Wish(word, (find_site_file(site, settings),), account, lenient=False)
    files = {path.stem: path for path in site_files(settings)}
    paths = tuple(path for name, path in files.items() if fnmatchcase(name, site))
    if not paths:
        raise UsageError(f"no site matches {site[:80]!r} in {settings.sites_dir}", f"sites: {', '.join(files)}")
    return _Wish(word, paths, account or "*")


def _select(wishes: Sequence[_Wish], settings: Settings) -> Selection:
    paths = tuple(dict.fromkeys(path for wish in wishes for path in wish.paths))
    sites, broken = _healthy(paths, site_files(settings))
    accounts: dict[tuple[str, str], tuple[SiteDescription, Account]] = {}
    left_out: list[str] = []
    for wish in wishes:
        here = [(path, sites[path]) for path in wish.paths if path in sites]
        matching = {}
        for path, site in here:
            if site.login is not None:
                matching.update({(str(path), account.name): (site, account) for account in _accounts(wish, path, site)})
            elif wish.lenient:
                left_out.append(f"{path.stem}: its file names no login host")
            else:
                broken.append(BrokenSite(path.stem, SiteError(f"{site.file}: names no login host")))
        accounts.update(matching)
        if not matching and any(site.login for _, site in here):
            if not wish.remembered:
                raise UsageError(f"no account matches {wish.word[:80]!r}", "see `accounts` in the site files")
            left_out.append(f"{wish.word}: there is no such account any more")
    return Selection(tuple(accounts.values()), tuple(broken), tuple(dict.fromkeys(left_out)))


def _accounts(wish: _Wish, path: Path, site: SiteDescription) -> list[Account]:
    if wish.lenient:
        return [account for account in site.accounts if fnmatchcase(account.name, wish.account)]
    if not wish.account and len(site.accounts) > 1:
        names = ", ".join(f"{path.stem}:{account.name}" for account in site.accounts)
        raise UsageError(f"site {path.stem} has several accounts", f"name one of: {names}; or all: '{path.stem}:*'")
    try:
        return [site.account(wish.account)] if wish.account else [site.accounts[0]]
    except SiteError as err:
        raise UsageError(err.message, err.hint) from None


def _healthy(paths: Iterable[Path], everything: Sequence[Path]) -> tuple[dict[Path, SiteDescription], list[BrokenSite]]:
    """Check all files together, then without those that are at fault, until the rest is sound."""
    left = list(paths)
    broken: dict[Path, BrokenSite] = {}
    sites: tuple[SiteDescription, ...] = ()
    while left and not sites:
        try:
            sites = checked_sites(left, [path for path in everything if path not in broken]).sites
        except SiteFileError as err:
            errors = [problem for problem in err.problems if problem.severity == "error"]
            for path in left:
                own = tuple(problem for problem in errors if problem.file == str(path))
                if own:
                    broken[path] = BrokenSite(path.stem, SiteFileError(own))
            if not any(path in broken for path in left):
                raise
            left = [path for path in left if path not in broken]
    return dict(zip(left, sites)), list(broken.values())
