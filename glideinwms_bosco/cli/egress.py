# SPDX-License-Identifier: Apache-2.0
"""`gwms-bosco egress ...`: the way out of a closed site shown, its egress proxy configured and checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.egress_check import check_from_here, check_from_login
from glideinwms_bosco.cli.frame import add_noun, add_verb
from glideinwms_bosco.cli.relay_keys import frontend_of
from glideinwms_bosco.cli.remote_verb import key_path, print_wait
from glideinwms_bosco.cli.selection import find_account, select_site, split_account
from glideinwms_bosco.cli.settings import load_settings
from glideinwms_bosco.cli.target import Sessions, Target
from glideinwms_bosco.egress.check import ERROR, UNREACHED, Line
from glideinwms_bosco.egress.listed import public_key
from glideinwms_bosco.egress.proxy_files import README, proxy_files
from glideinwms_bosco.egress.proxy_squid import DEFAULT_CACHE_MB
from glideinwms_bosco.egress.recipe import Recipe, recipe
from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, EXIT_REMOTE, EgressError, UsageError
from glideinwms_bosco.remote.throttle import Throttle
from glideinwms_bosco.siteconf.tree_files import write_tree

MAX_KEY_FILE_BYTES = 16 * 1024
_SITE_HELP = "short name or file of the site"


def add_commands(nouns: Any) -> None:
    """Add the noun and its verbs."""
    verbs = add_noun(nouns, "egress", "closed sites: the way out of them", "gwms-bosco egress show jsc")
    show = add_verb(
        verbs, "show", _show, "show the way out of a closed site", "gwms-bosco egress show jsc", as_json=True
    )
    show.add_argument("site", metavar="SITE", help=_SITE_HELP)
    example = "gwms-bosco egress proxy jsc --output /tmp/egress-jsc"
    proxy = add_verb(verbs, "proxy", _proxy, "write the configuration of a site's egress proxy", example, as_json=True)
    proxy.add_argument("site", metavar="SITE", help=_SITE_HELP)
    proxy.add_argument("--output", type=Path, metavar="DIR", required=True, help="folder to make, all or nothing")
    proxy.add_argument("--force", action="store_true", help="replace a folder that holds something else")
    proxy.add_argument("--listen", metavar="ADDRESS", help="address to listen on; all when left out")
    proxy.add_argument("--public-key", type=Path, metavar="FILE", help="of the tunnel, for kind ssh (a .pub file)")
    proxy.add_argument(
        "--cache-mb", type=int, default=DEFAULT_CACHE_MB, metavar="MB", help="squid's cache on disk (%(default)s)"
    )
    example = "gwms-bosco egress check jsc --key ~/.ssh/jsc"
    check = add_verb(verbs, "check", _check, "ask an egress proxy as the site's pilots will", example, as_json=True)
    check.description = (
        "Connect from the login node to the egress proxy: is it there, is it of its kind, do the forwards pass, is "
        "anything else refused? Exit status: 0 yes, 1 no, 3 the login node or the egress proxy cannot be reached."
    )
    check.add_argument("account", metavar="SITE[:ACCOUNT]", help=f"{_SITE_HELP}, and account")
    check.add_argument("--key", type=Path, metavar="FILE", help="private key for the login node, or broker[:FRONTEND]")
    check.add_argument("--direct", action="store_true", help="connect from this host, in the place of the login node")


def _show(args: argparse.Namespace) -> int:
    found = recipe(select_site(args.site, load_settings()))
    if args.json:
        output.print_json(found.as_json())
    else:
        _print_recipe(found)
    return EXIT_OK


def _print_recipe(found: Recipe) -> None:
    print(f"{found.site}: {found.kind}")
    _print_rows(found.ways)
    print("forwards:")
    _print_rows([(name, f"{target:<28} {use}") for name, target, use in found.forwards])
    if found.key_limits:
        print("limits of the tunnel's key:")
        _print_rows(found.key_limits)
    print("entries:")
    for name, value in found.pilot:
        print(f"  {name} = {value}")


def _print_rows(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(output.printable(f"  {name:<{width}}  {text}"))


def _proxy(args: argparse.Namespace) -> int:
    site = select_site(args.site, load_settings())
    files = proxy_files(site, args.listen, _read_key(args.public_key), args.cache_mb)
    action = "written" if write_tree(files, args.output, args.force) else "unchanged"
    if args.json:
        output.print_json({"action": action, "folder": str(args.output), "files": list(files)})
        return EXIT_OK
    print(f"{action}: {args.output} ({output.counted(len(files), 'file')})")
    print(f"its administrator reads {args.output / README}")
    return EXIT_OK


def _read_key(path: Optional[Path]) -> Optional[str]:
    if path is None:
        return None
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_KEY_FILE_BYTES + 1)
        if len(text) > MAX_KEY_FILE_BYTES:
            raise EgressError(f"{path}: is longer than {MAX_KEY_FILE_BYTES} bytes", "give the .pub file")
        return public_key(text.decode("ascii"))
    except OSError as err:
        raise UsageError(f"{path}: cannot be read: {err.strerror}") from None
    except UnicodeDecodeError:
        raise EgressError(f"{path}: is no public key", "give the .pub file") from None
    except EgressError as err:
        raise EgressError(f"{path}: {err.message}", err.hint) from None


def _check(args: argparse.Namespace) -> int:
    settings = load_settings()
    if args.direct:
        if args.key is not None:
            raise UsageError("--key and --direct exclude each other", "nothing logs in with --direct")
        site = select_site(split_account(args.account)[0], settings)
        where, lines = "this host", check_from_here(site)
    else:
        site, account = find_account(args.account, settings)
        frontend = frontend_of(args.key, account)
        key = key_path(args.key) if frontend is None else None
        sessions = Sessions(Throttle(settings.state_dir / "connections"), print_wait)
        target = Target(site, account, key, sessions, frontend)
        where, lines = target.label, check_from_login(target)
    bad = [line for line in lines if line.severity in (ERROR, UNREACHED)]
    if args.json:
        output.print_json({"from": where, "ok": not bad, "lines": [line.as_json() for line in lines]})
    else:
        for line in lines:
            print(output.printable(str(line)))
        print(f"{output.counted(len(lines), 'question')} from {where}: {len(bad)} wrong")
    return _status(bad)


def _status(bad: Sequence[Line]) -> int:
    if any(line.severity == UNREACHED for line in bad):
        return EXIT_REMOTE
    return EXIT_REFUSED if bad else EXIT_OK
