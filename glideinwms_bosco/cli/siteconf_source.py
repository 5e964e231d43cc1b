# SPDX-License-Identifier: Apache-2.0
"""From `DIR|SITE` as the operator typed it to a SITECONF that was read as readers read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.cli.selection import find_site_file
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.siteconf.from_tree import Tree, read_tree
from glideinwms_bosco.siteconf.of_site import has_pilot_proxies, site_tree

OPERAND_HELP = "folder of a SITECONF (a site's, or the whole with its `local`), or a site file or its short name"


@dataclass(frozen=True)
class Source:
    """A SITECONF; `site` None: a folder. Of a site, its files are named as on a node, from SITECONF on."""

    tree: Tree
    site: Optional[SiteDescription] = None

    @property
    def pilot_proxies(self) -> bool:
        """Whether pilots add the web proxies that they find."""
        return self.site is not None and has_pilot_proxies(self.site)


def read_source(name: str) -> Source:
    """Read what the operator named.

    Raises:
        UsageError: there is no such folder or site.
        SiteFileError: the site file has problems.
        SiteconfError: its SITECONF cannot be made.
    """
    folder = Path(name)
    if folder.is_dir() or (folder.is_symlink() and not folder.is_file()):
        return Source(read_tree(folder))
    site = named_site(name)
    return Source(site_tree(site), site)


def named_site(name: str) -> SiteDescription:
    """The site of a site file or short name.

    Raises:
        UsageError: there is no such site, and no such folder.
        SiteFileError: the file has problems.
    """
    path = find_site_file(name, load_settings())
    if not path.exists():
        raise UsageError(f"{name[:200]}: there is no such folder or file", "name a SITECONF folder or a site")
    return load_site(path)[0]
