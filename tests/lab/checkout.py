# SPDX-License-Identifier: Apache-2.0
"""How the hosts see the checkout: live where they can read it, else as a readable copy.

A bind mount shows edits at once and does not care about the modes of the directories above the checkout. But it keeps
the modes of the checkout itself: one made with umask 077 could not be read by user `factory`. Then the hosts get a
copy, which every `up` (also of a lab that is up) refreshes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.lab.settings import CHECKOUT, CHECKOUT_SKIP, Settings


def _walk(top: Path) -> Iterator[tuple[Path, bool]]:
    """Yield (path, is a directory) of everything that hosts need, `top` first."""
    yield top, True
    for folder, directories, files in os.walk(top):
        directories[:] = sorted(set(directories) - CHECKOUT_SKIP)
        for name in directories:
            yield Path(folder, name), True
        for name in files:
            yield Path(folder, name), False


def readable_by_all(top: Path) -> bool:
    """Tell whether any account can read everything below `top` once it stands at `top`."""
    for path, is_directory in _walk(top):
        needed = stat.S_IROTH | (stat.S_IXOTH if is_directory else 0)
        # An editor's temporary file may vanish under our eyes.
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_mode & needed != needed:
                return False
    return True


def provide(settings: Settings, top: Path = CHECKOUT) -> Path:
    """Return the directory to mount: `top` itself, or the lab's readable copy, brought up to date."""
    copy = settings.state_dir / "checkout"
    # A running lab keeps the kind of mount it began with.
    if not copy.exists() and readable_by_all(top):
        return top
    wanted = set()
    for path, is_directory in _walk(top):
        target = copy / path.relative_to(top)
        wanted.add(target)
        if is_directory:
            target.mkdir(parents=True, exist_ok=True)
            target.chmod(0o755)
        elif path.is_file():
            fresh = target.with_name(target.name + ".new")
            shutil.copyfile(path, fresh)
            fresh.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
            fresh.rename(target)
    for path, is_directory in list(_walk(copy)):
        if path not in wanted and path.exists():
            shutil.rmtree(path) if is_directory else path.unlink()
    return copy
