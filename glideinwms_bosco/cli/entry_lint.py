# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco entry lint`: what reconfig and the pilots would stumble over, before they do."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glideinwms_bosco.cli import output
from glideinwms_bosco.entry.lint import lint
from glideinwms_bosco.entry.lint_codes import RULES, SEVERITIES, codes_page
from glideinwms_bosco.entry.lint_context import GWMS_VERSIONS, Finding
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, UsageError


def add_lint(verbs: Any) -> None:
    """Add the verb `lint` to `entry`."""
    parser = verbs.add_parser(
        "lint",
        help="check any factory configuration before reconfig",
        description="Check a factory configuration: a glideinWMS.xml with the config.d beside it, a folder, or single "
        "files. Exit status: 0 no errors (there may be warnings), 1 errors, 2 unusable call.",
        epilog="example: gwms-bosco entry lint /etc/gwms-factory/glideinWMS.xml",
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files and folders, one configuration")
    parser.add_argument(
        "--gwms-version", choices=GWMS_VERSIONS, default=GWMS_VERSIONS[0], help="default: %(default)s", dest="version"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--codes", action="store_true", help="print the page of all codes, check nothing")
    parser.set_defaults(run=_lint)


def _lint(args: argparse.Namespace) -> int:
    if args.codes:
        output.print_codes(codes_page(), RULES.values(), args.json)
        return EXIT_OK
    if not args.paths:
        raise UsageError("no PATH is given", "name a glideinWMS.xml, a config.d or XML files")
    findings = lint(args.paths, args.version)
    counts = Counter(finding.severity for finding in findings)
    if args.json:
        rows = [finding.as_json() for finding in findings]
        output.print_json({"findings": rows, "summary": {severity: counts[severity] for severity in SEVERITIES}})
    else:
        for finding in findings:
            print(output.printable(str(finding)))
        print(_summary(findings, counts))
    return EXIT_REFUSED if counts["error"] else EXIT_OK


def _summary(findings: Sequence[Finding], counts: Counter[str]) -> str:
    if not findings:
        return "no findings"
    numbers = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES)
    return f"{output.counted(len(findings), 'finding')}: {numbers}"
