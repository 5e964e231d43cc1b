# SPDX-License-Identifier: Apache-2.0
"""What root makes for a daemon has to belong to the daemon's account."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import UsageError


def add_user_option(parser: argparse.ArgumentParser, account: str) -> None:
    """Add `--user`, whose default is the account that the packages make."""
    parser.add_argument("--user", metavar="NAME", help=f"run by root: account of the daemon (default: {account})")
    parser.set_defaults(default_user=account)


def daemon_account(args: argparse.Namespace) -> Optional[pwd.struct_passwd]:
    """The account to give things to; None when they stay the caller's.

    Raises:
        UsageError: an account was named, and there is none, or the caller is not root.
    """
    if os.geteuid() != 0:
        if args.user:
            raise UsageError("--user is for root only", "run this as the daemon's account, without --user")
        return None
    name = args.user or args.default_user
    try:
        return pwd.getpwnam(name)
    except KeyError:
        if args.user:
            raise UsageError(f"there is no account {name!r} on this host", f"useradd --system {name}") from None
        print(f"note: there is no account {name} here: what is made belongs to root", file=sys.stderr)
        return None


def make_folder(path: Path, mode: int, account: Optional[pwd.struct_passwd], roots: bool = False) -> None:
    """Make a folder for a daemon; one that is there already stays as it is.

    Args:
        roots: the daemon may read there, by its group, and not write.
    """
    if path.is_dir():
        return
    path.mkdir(mode=mode, parents=True)
    path.chmod(mode)  # whatever the caller's umask
    if account is not None:
        os.chown(path, 0 if roots else account.pw_uid, account.pw_gid)


def give_to_owner_of(folder: Path, *files: Optional[Path]) -> None:
    """Give files that root has made in a folder to the folder's owner, whose program reads them."""
    if os.geteuid() == 0:
        found = folder.stat()
        for file in files:
            if file is not None:
                os.chown(file, found.st_uid, found.st_gid, follow_symlinks=False)
