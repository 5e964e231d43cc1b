# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco siteconf ...`: what CMS jobs read to find data, storage and proxies; checked, explained, imported."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.cli import output, siteconf_view
from glideinwms_bosco.cli.frame import add_noun, add_verb
from glideinwms_bosco.cli.siteconf_source import OPERAND_HELP, named_site, read_source
from glideinwms_bosco.entry.import_yaml import site_yaml
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, SiteconfError, UsageError
from glideinwms_bosco.siteconf.check import check_tree
from glideinwms_bosco.siteconf.codes import RULES, SEVERITIES, Finding, codes_page
from glideinwms_bosco.siteconf.explain import explain
from glideinwms_bosco.siteconf.from_tree import read_tree
from glideinwms_bosco.siteconf.render import site_files
from glideinwms_bosco.siteconf.to_block import to_block
from glideinwms_bosco.siteconf.tree_files import write_tree


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = add_noun(nouns, "siteconf", "SITECONF: what CMS jobs read on a node", "gwms-bosco siteconf check nersc")
    example = "gwms-bosco siteconf check /cvmfs/cms.cern.ch/SITECONF/T2_FI_HIP"
    check = add_verb(verbs, "check", _check, "find what CMSSW, WMCore or CMS would refuse", example, as_json=True)
    check.description = (
        "Check SITECONFs by the rules of CMSSW, WMCore and CMS's validation. Exit status: 0 no errors (there may be "
        "warnings), 1 errors, 2 unusable call."
    )
    check.add_argument("sources", nargs="*", metavar="DIR|SITE", help=OPERAND_HELP)
    check.add_argument("--codes", action="store_true", help="print the page of all codes, check nothing")
    example = "gwms-bosco siteconf explain /store/data/a.root nersc"
    explains = add_verb(verbs, "explain", _explain, "show the PFNs that readers would use, in order", example, True)
    explains.add_argument("lfn", metavar="LFN", help="logical file name, /store/...")
    explains.add_argument("source", metavar="DIR|SITE", help=OPERAND_HELP)
    example = "gwms-bosco siteconf import /cvmfs/cms.cern.ch/SITECONF/T2_FI_HIP --output hip.yaml"
    imports = add_verb(verbs, "import", _import, "turn a SITECONF into the block of a site file", example, as_json=True)
    imports.add_argument("folder", type=Path, metavar="DIR", help="folder of a SITECONF")
    imports.add_argument("--output", type=Path, metavar="FILE", help="write it there; printed when left out")
    imports.add_argument("--force", action="store_true", help="replace a file that exists")
    example = "gwms-bosco siteconf show nersc"
    show = add_verb(verbs, "show", _show, "show where a SITECONF has jobs read, write and ask", example, as_json=True)
    show.add_argument("source", metavar="DIR|SITE", help=OPERAND_HELP)
    example = "gwms-bosco siteconf render nersc --output /tmp/SITECONF"
    render = add_verb(verbs, "render", _render, "write the SITECONF of a site into a folder", example, as_json=True)
    render.add_argument("site", metavar="SITE", help="site file or short name")
    render.add_argument("--output", type=Path, metavar="DIR", required=True, help="folder to make, all or nothing")
    render.add_argument("--force", action="store_true", help="replace a folder that holds something else")


def _check(args: argparse.Namespace) -> int:
    if args.codes:
        output.print_codes(codes_page(), RULES.values(), args.json)
        return EXIT_OK
    if not args.sources:
        raise UsageError("no DIR or SITE is given", "name a folder of a SITECONF, or a site")
    findings: list[Finding] = []
    for name in args.sources:
        source = read_source(name)
        findings += check_tree(source.tree, source.pilot_proxies)
    counts = Counter(finding.rule.severity for finding in findings)
    if args.json:
        rows = [finding.as_json() for finding in findings]
        output.print_json({"findings": rows, "summary": {severity: counts[severity] for severity in SEVERITIES}})
    else:
        for finding in findings:
            print(output.printable(str(finding)))
        numbers = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES)
        print(f"{output.counted(len(findings), 'finding')}: {numbers}" if findings else "no findings")
    return EXIT_REFUSED if counts["error"] else EXIT_OK


def _explain(args: argparse.Namespace) -> int:
    attempts = explain(read_source(args.source).tree, args.lfn)
    if args.json:
        output.print_json([attempt.as_json() for attempt in attempts])
    else:
        siteconf_view.print_attempts(attempts)
    readers = {(attempt.reader, attempt.purpose) for attempt in attempts}
    served = {(attempt.reader, attempt.purpose) for attempt in attempts if attempt.pfn}
    return EXIT_OK if attempts and readers == served else EXIT_REFUSED


def _import(args: argparse.Namespace) -> int:
    tree = read_tree(args.folder)
    block = to_block(tree)
    text = site_yaml({"runtime": {"siteconf": block.data}}, (f"runtime.siteconf of {tree.path}",))
    action = "not written"
    if args.output is not None:
        action = _write(args.output, text.encode("utf-8"), args.force)
    if args.json:
        row = {"source": str(tree.path), "action": action, "siteconf": dict(block.data), "left": list(block.left)}
        output.print_json({**row, "text": text})
        return EXIT_OK
    if args.output is None:
        sys.stdout.write(text)
    else:
        print(f"{action}: {args.output}")
    for sentence in block.left:
        print(output.printable(f"to do: {sentence}"), file=sys.stdout if args.output else sys.stderr)
    return EXIT_OK


def _write(path: Path, content: bytes, force: bool) -> str:
    if (path.exists() or path.is_symlink()) and not force:
        raise SiteconfError(f"{path}: exists, nothing was written", "use another file, or --force")
    try:
        return "written" if write_atomic(path, content) else "unchanged"
    except OSError as err:
        hint = "check that the folder exists and is yours"
        raise SiteconfError(f"{path}: cannot be written: {err.strerror}", hint) from None


def _show(args: argparse.Namespace) -> int:
    source = read_source(args.source)
    if args.json:
        output.print_json({**siteconf_view.as_json(source.tree), "pilot_proxies": source.pilot_proxies})
        return EXIT_OK
    siteconf_view.print_tree(source.tree)
    if source.pilot_proxies and source.tree.siteconf.config.frontier is not None:
        print("proxies that pilots find come before these, and their backups before the backup proxies")
    return EXIT_OK


def _render(args: argparse.Namespace) -> int:
    files = site_files(named_site(args.site))
    action = "written" if write_tree(files, args.output, args.force) else "unchanged"
    if args.json:
        output.print_json({"action": action, "folder": str(args.output), "files": list(files)})
    else:
        print(f"{action}: {args.output} ({output.counted(len(files), 'file')})")
    return EXIT_OK
