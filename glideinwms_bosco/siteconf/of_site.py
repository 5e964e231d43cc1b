# SPDX-License-Identifier: Apache-2.0
"""The SITECONF of a site file as readers find it on a node: made, laid out in a folder, read back, checked."""

from __future__ import annotations

import tempfile
from pathlib import Path

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.siteconf.check import check_tree
from glideinwms_bosco.siteconf.codes import Finding
from glideinwms_bosco.siteconf.from_tree import Tree, moved, read_tree
from glideinwms_bosco.siteconf.model import LOCAL_NAME
from glideinwms_bosco.siteconf.render import TOP, site_files
from glideinwms_bosco.siteconf.tree_files import fill

MAX_SHOWN = 10
"""Findings about one site file, the errors first; a broken catalog has one for each of its rules."""
_FIELD = "runtime.siteconf"


def site_tree(site: SiteDescription) -> Tree:
    """Read the SITECONF of a site as readers would; its files are named as on a node, from SITECONF on.

    Raises:
        SiteconfError: it cannot be made.
    """
    files = site_files(site)
    with tempfile.TemporaryDirectory(prefix="gwms-bosco-") as folder:
        # Links resolved, as the names of its files are known by this one.
        scratch = Path(folder).resolve()
        fill(files, scratch / TOP)
        return moved(read_tree(scratch / TOP / LOCAL_NAME), f"{scratch}/", "")


def has_pilot_proxies(site: SiteDescription) -> bool:
    """Whether pilots of a site add the web proxies that they find."""
    return site.runtime is not None and site.runtime.web_proxies is not None


def siteconf_problems(site: SiteDescription) -> tuple[Problem, ...]:
    """Check the SITECONF of a site by the rules of its readers; a site without one has no problem.

    Returns:
        What is found, at the line of the block; no more than MAX_SHOWN, and then how many are left.

    Raises:
        SiteconfError: it cannot be made.
    """
    if site.runtime is None or site.runtime.siteconf is None:
        return ()
    findings = check_tree(site_tree(site), has_pilot_proxies(site))
    worst_first = sorted(findings, key=lambda found: found.rule.severity != "error")
    problems = [_problem(site, found) for found in worst_first[:MAX_SHOWN]]
    left = worst_first[MAX_SHOWN:]
    if left:
        message, severity = f"and {len(left)} more of its SITECONF", left[0].rule.severity
        hint = f"`gwms-bosco siteconf check {site.short_name}` lists all"
        problems.append(Problem(site.file, site.line(_FIELD), _FIELD, message, hint, severity))
    return tuple(problems)


def _problem(site: SiteDescription, found: Finding) -> Problem:
    rule = found.rule
    place = f"{found.file}:{found.line}" if found.line else found.file
    message = f"{place}: [{rule.code}] {found.message} ({', '.join(rule.readers)})"
    return Problem(site.file, site.line(_FIELD), _FIELD, message, rule.remedy, rule.severity)
