# SPDX-License-Identifier: Apache-2.0
"""Read the files that an operator lays over bundles: those of the host for a batch system, then those of the site.

The host's lie in a folder as they lie in the bundle, overrides/slurm/libexec/x.sh: like the override folder that
condor_remote_cluster knows, it is kept in git or copied as it is, and no second list can differ from it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from glideinwms_bosco.bundle.elf import read_elf
from glideinwms_bosco.bundle.extra import MAX_EXTRA_FILE_BYTES, MAX_EXTRA_FILES, ExtraFile, refusal, too_much
from glideinwms_bosco.bundle.layout import EXECUTABLE, PLAIN
from glideinwms_bosco.bundle.shell_syntax import syntax_error
from glideinwms_bosco.errors import Problem, SourceError
from glideinwms_bosco.site.model import Override, SiteDescription

Found = tuple[tuple[ExtraFile, ...], tuple[Problem, ...]]


def read_overrides(site: SiteDescription, host_folder: Optional[Path]) -> Found:
    """Read all files for a site's bundle, the host's first, and everything that is wrong with them.

    Args:
        site: the site.
        host_folder: has a folder for each batch system; may be missing. None: there is none.
    """
    host = _host_files(host_folder / site.batch.system, site.batch.system) if host_folder is not None else ((), ())
    files, problems = list(host[0]), list(host[1])
    for i, override in enumerate(site.install.overrides):
        field = f"install.overrides[{i}]"
        place = f"{field}.{'path' if override.file is None else 'file'}"
        content, wrong = _site_content(site, override)
        if content is not None:
            origin = f"{site.file} {field}" + (f", {_site_path(site, override)}" if override.file is not None else "")
            file = ExtraFile(override.path, content, origin, override.mode)
            files.append(file)
            shown = f"{_site_path(site, override)}:" if override.file is not None else "line "
            wrong = _wrong(file, site.batch.system, shown)
        if wrong is not None:
            problems.append(Problem(site.file, site.line(place), place, *wrong))
    excess = too_much(tuple(files))
    if excess is not None:
        problems.append(Problem(site.file, site.line("install.overrides"), "install.overrides", *excess))
    return tuple(files), tuple(problems)


def _site_path(site: SiteDescription, override: Override) -> Path:
    return Path(site.file).parent / str(override.file)


def _site_content(site: SiteDescription, override: Override) -> tuple[Optional[bytes], Optional[tuple[str, str]]]:
    """Return the content, or what is wrong: message and hint; neither when both or none of the sources are named."""
    if (override.file is None) == (override.content is None):
        return None, None  # crosscheck has told
    if override.content is not None:
        return override.content.encode("utf-8"), None
    path = _site_path(site, override)
    folder = Path(site.file).parent
    if not Path(str(override.file)).is_absolute() and not _is_below(path, folder):
        return None, (f"{override.file} leaves the folder of the site file", "name it by its absolute path")
    return _read(path)


def _is_below(path: Path, folder: Path) -> bool:
    real, top = os.path.realpath(path), os.path.realpath(folder)
    return real.startswith(top.rstrip("/") + "/")


def _read(path: Path) -> tuple[Optional[bytes], Optional[tuple[str, str]]]:
    try:
        # Without O_NONBLOCK opening a pipe waits for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return None, (f"{path} is not a regular file", "name a file")
            content = stream.read(MAX_EXTRA_FILE_BYTES + 1)
    except (OSError, ValueError) as err:
        return None, (f"{path} cannot be read: {getattr(err, 'strerror', None) or err}", "check name and permissions")
    if len(content) > MAX_EXTRA_FILE_BYTES:
        return None, (f"{path} is larger than {MAX_EXTRA_FILE_BYTES} bytes", "put it on the site's own storage")
    return content, None


def _wrong(file: ExtraFile, batch_system: str, shown: str) -> Optional[tuple[str, str]]:
    """Find what is wrong with a file: message and hint; `shown` stands before the number of a line."""
    found = refusal(file, batch_system)
    if found is not None:
        return f"{file.path} {found[0]}", found[1]
    if file.is_elf:
        try:
            read_elf(file.content, file.path)
        except SourceError as err:
            return err.message, "lay an intact file over"
        return None
    error = syntax_error(file.path, file.content)
    if error is None:
        return None
    return f"{shown}{error.line}: {error.text} ({error.shell} -n)", "correct the script"


def _host_files(folder: Path, batch_system: str) -> Found:
    files: list[ExtraFile] = []
    problems: list[Problem] = []
    for number, path in enumerate(_walk(folder)):
        if number == MAX_EXTRA_FILES:
            hint = "keep only files for the bundle there"
            problems.append(Problem(str(folder), 0, "", f"holds more than {MAX_EXTRA_FILES} files", hint))
            break
        wrong = _host_link(path, folder)
        content = None
        if wrong is None:
            content, wrong = _read(path)
        line = 0
        if content is not None:
            mode = EXECUTABLE if path.stat().st_mode & stat.S_IXUSR else PLAIN
            file = ExtraFile(str(path.relative_to(folder)), content, str(path), mode)
            files.append(file)
            found = refusal(file, batch_system) is None and not file.is_elf and syntax_error(file.path, content)
            line = found.line if found else 0
            wrong = _wrong(file, batch_system, "line ")
        if wrong is not None:
            problems.append(Problem(str(path), line, "", *wrong))
    return tuple(files), tuple(problems)


def _host_link(path: Path, folder: Path) -> Optional[tuple[str, str]]:
    if not _is_below(path, folder):
        return "is a link that leaves the folder", "put a copy of the file there"
    if path.is_symlink() and path.is_dir():
        return "is a link to a folder", "make it a folder of its own"
    return None


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything but folders, sorted; names with a dot in front are those of editors and git."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)
