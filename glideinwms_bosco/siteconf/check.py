# SPDX-License-Identifier: Apache-2.0
"""Check a SITECONF before a job reads it: the rules of every reader over one tree."""

from __future__ import annotations

from pathlib import Path

from glideinwms_bosco.siteconf.check_cmssw import check_cmssw
from glideinwms_bosco.siteconf.check_references import check_references
from glideinwms_bosco.siteconf.check_storage import check_storage
from glideinwms_bosco.siteconf.check_validation import check_validation
from glideinwms_bosco.siteconf.check_wmcore import check_wmcore
from glideinwms_bosco.siteconf.codes import Finding
from glideinwms_bosco.siteconf.from_tree import Tree, read_tree
from glideinwms_bosco.siteconf.scope import Scope


def check_folder(folder: Path) -> tuple[Finding, ...]:
    """Check a site's folder, or the `local` of a whole SITECONF.

    Raises:
        UsageError: there is no such folder.
    """
    return check_tree(read_tree(folder))


def check_tree(tree: Tree, pilot_proxies: bool = False) -> tuple[Finding, ...]:
    """Check a tree.

    Args:
        pilot_proxies: whether pilots add the web proxies that they find.

    Returns:
        All findings: those of site-local-config.xml first, by line.
    """
    scope = Scope(tree, pilot_proxies, list(tree.findings))
    if tree.has_config and scope.config.site:
        # Without a name nothing can be looked up.
        check_references(scope)
    if tree.has_config:
        check_cmssw(scope)
        check_wmcore(scope)
    check_storage(scope)
    check_validation(scope)
    order = (tree.config_file, *tree.storage_files.values())
    ranks = {file: rank for rank, file in enumerate(order)}
    unique = dict.fromkeys(scope.findings)
    return tuple(sorted(unique, key=lambda found: (ranks.get(found.file, len(ranks)), found.line, found.number)))
