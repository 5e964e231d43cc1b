# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco entry import`: existing factory entries become site files."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.cli import output
from glideinwms_bosco.entry.import_left import Left, left_behind
from glideinwms_bosco.entry.import_sites import ImportedSite, import_sites, summary
from glideinwms_bosco.entry.xml_source import read_entry_xml
from glideinwms_bosco.errors import EXIT_OK, EntryError, UsageError


def add_import(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "import",
        help="turn existing factory entries into site files",
        epilog="example: gwms-bosco entry import /etc/gwms-factory/config.d/10-hpc.xml --output sites.d",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="factory configuration: glideinWMS.xml or of config.d")
    parser.add_argument("entries", nargs="*", default=[], metavar="ENTRY", help="entry to import; all when left out")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write one file per login host there")
    parser.add_argument("--force", action="store_true", help="replace site files that exist")
    parser.add_argument("--json", action="store_true", help="print what was imported, kept and left as JSON")
    parser.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> int:
    if _is_missing(args.file):
        raise UsageError(f"{args.file}: there is no such file", "name a glideinWMS.xml or a file of config.d")
    xml = read_entry_xml(args.file)
    sites = import_sites(xml.root, xml.file, args.entries, xml.line)
    left = left_behind(xml.root, args.entries, xml.line)
    actions = _write(sites, args.output, args.force) if args.output else ["not written"] * len(sites)
    if args.json:
        rows = [_row(site, action, args.output) for site, action in zip(sites, actions)]
        output.print_json({"source": xml.file, "sites": rows, "left": [asdict(item) for item in left]})
        return EXIT_OK
    report = sys.stdout if args.output else sys.stderr
    for i, (site, action) in enumerate(zip(sites, actions)):
        if not args.output:
            sys.stdout.write(("---\n" if i else "") + (f"# {site.short_name}.yaml\n" if len(sites) > 1 else ""))
            sys.stdout.write(site.text)
        path = _path(site, args.output)
        print(f"{action}: {path} ({output.counted(len(site.entries), 'entry', 'entries')})", file=report)
        for line in summary(site.kept):
            print(output.printable(f"  kept: {line}"), file=report)
        for problem in site.to_do:
            print(output.printable(f"  to do: {problem.field}: {problem.message}; {problem.hint}"), file=report)
    for item in left:
        print(output.printable(_left_line(xml.file, item)), file=report)
    return EXIT_OK


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        # It is there, and reading it says what is wrong.
        return False
    return False


def _left_line(file: str, item: Left) -> str:
    where = "" if item.entry is None else f" of entry {item.entry}"
    return f"left: {file}:{item.line}: {item.what}{where}: {item.why}"


def _path(site: ImportedSite, folder: Any) -> Path:
    name = f"{site.short_name}.yaml"
    return folder / name if folder else Path(name)


def _row(site: ImportedSite, action: str, folder: Any) -> dict[str, Any]:
    return {
        "file": str(_path(site, folder)),
        "action": action,
        "entries": list(site.entries),
        "kept": [asdict(item) for item in site.kept],
        "to_do": [asdict(problem) for problem in site.to_do],
        "text": site.text,
    }


def _write(sites: tuple[ImportedSite, ...], folder: Path, force: bool) -> list[str]:
    """Write all files or, when one is in the way, none."""
    paths = [_path(site, folder) for site in sites]
    present = [path for path in paths if path.exists() or path.is_symlink()]
    if present and not force:
        others = f" (and {len(present) - 1} more)" if len(present) > 1 else ""
        raise EntryError(f"{present[0]}: exists{others}, nothing was written", "use another folder, or --force")
    actions = []
    for site, path in zip(sites, paths):
        try:
            written = write_atomic(path, site.text.encode("utf-8"))
        except OSError as err:
            hint = "check that the folder exists and is yours"
            raise EntryError(f"{path}: cannot be written: {err.strerror}", hint) from None
        actions.append("written" if written else "unchanged")
    return actions
