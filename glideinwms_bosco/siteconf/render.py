# SPDX-License-Identifier: Apache-2.0
"""Make the files of a SITECONF tree, the same bytes for the same site: whole, or as the archive that pilots bring."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from glideinwms_bosco.errors import Problem, SiteconfFileError
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.siteconf.model import (
    CATALOG_NAME,
    CONFIG_NAME,
    LOCAL_NAME,
    STORAGE_NAME,
    Link,
    Siteconf,
    TreeFile,
)
from glideinwms_bosco.siteconf.shipped import cut_config, read_tree
from glideinwms_bosco.siteconf.sources import described_siteconf, required_block, site_name
from glideinwms_bosco.siteconf.storage_json import write_storage
from glideinwms_bosco.siteconf.text_file import read_bytes
from glideinwms_bosco.siteconf.tfc import write_catalog
from glideinwms_bosco.siteconf.write_config import write_config, write_pieces

__all__ = ("HEAD", "TAIL", "TOP", "Link", "TreeFile", "archive_files", "render", "site_files")

TOP = "SITECONF"
"""Folder that all files of an archive stand in."""
HEAD, TAIL = ".head", ".tail"
"""Endings of the two pieces of a site-local-config.xml."""


def archive_files(site: SiteDescription) -> Mapping[str, TreeFile]:
    """Make the tree that pilots of a site bring along.

    The site-local-config.xml that `local` names comes in two pieces, `….xml.head` and `….xml.tail`, cut in
    `<frontier-connect>` before its first proxy: `<proxy>` and `<backupproxy>` elements that the pilot puts between
    them are asked before those of the document. Head and tail alone are the whole document. One that has no single
    `<frontier-connect>` (with `local_connect`, or shipped with `tree`) comes whole, under its own name.

    Returns:
        path -> contents or link, sorted by path: `SITECONF/SITE/JobConfig/site-local-config.xml.head`, ….tail,
        `SITECONF/SITE/PhEDEx/storage.xml`, `SITECONF/SITE/storage.json`, `SITECONF/SIBLING/storage.json`,
        `SITECONF/local` -> `SITE` (or `SITE/SUBSITE`, whose JobConfig then lies there). Empty when the site file has
        no `runtime.siteconf`.

    Raises:
        SiteconfFileError: a file that the block names cannot be read or used; each problem has file and line.
        SiteconfError: the site file names no CMS site, or a value cannot be written.
    """
    if site.runtime is None or site.runtime.siteconf is None:
        return {}
    block = required_block(site)
    config_path = str(PurePosixPath(site_name(site), block.subsite or "", CONFIG_NAME))
    if block.tree is not None:
        files = dict(_shipped(site, block.tree))
        config_path = _through_links(files, config_path)
        config = files[config_path]
        file = Path(block.tree) / config_path
        with _problems_of_tree(site):
            pieces = cut_config(read_bytes(file) if isinstance(config, Link) else config, str(file))
    else:
        siteconf = described_siteconf(site)
        files = dict(render(siteconf))
        pieces = write_pieces(siteconf.config)
    if pieces is not None:
        del files[config_path]
        files[config_path + HEAD], files[config_path + TAIL] = pieces
    return {f"{TOP}/{path}": files[path] for path in sorted(files)}


def site_files(site: SiteDescription) -> Mapping[str, TreeFile]:
    """Make the tree of a site whole, as a node without any proxy of its own would have it.

    Returns:
        path below SITECONF -> contents or link, sorted by path.

    Raises:
        SiteconfFileError, SiteconfError: as `archive_files`; also when there is no `runtime.siteconf`.
    """
    block = required_block(site)
    return _shipped(site, block.tree) if block.tree is not None else render(described_siteconf(site))


def render(siteconf: Siteconf) -> Mapping[str, TreeFile]:
    """Make the tree of a SITECONF whole.

    Returns:
        path below SITECONF -> contents or link, sorted by path.

    Raises:
        SiteconfError: a value cannot be written.
    """
    config = siteconf.config
    own = PurePosixPath(config.site, config.subsite or "")
    files: dict[str, TreeFile] = {
        LOCAL_NAME: Link(str(own)),
        str(own / CONFIG_NAME): write_config(config),
        f"{config.site}/{STORAGE_NAME}": write_storage(siteconf.storage),
    }
    if siteconf.phedex_catalog is not None:
        files[f"{config.site}/{CATALOG_NAME}"] = write_catalog(siteconf.phedex_catalog)
    for name, items in siteconf.siblings.items():
        files[f"{name}/{STORAGE_NAME}"] = write_storage(items)
    return {path: files[path] for path in sorted(files)}


def _through_links(files: Mapping[str, TreeFile], path: str) -> str:
    """The path under which a file stands in a tree, when folders on the way are links; a file's own link is kept.

    No circle: the whole tree has been read through these links.
    """
    parts = PurePosixPath(path).parts
    for i in range(1, len(parts)):
        link = files.get("/".join(parts[:i]))
        if isinstance(link, Link):
            return _through_links(files, posixpath.normpath("/".join((*parts[: i - 1], link.target, *parts[i:]))))
    return path


def _shipped(site: SiteDescription, tree: str) -> Mapping[str, TreeFile]:
    """The operator's tree."""
    with _problems_of_tree(site):
        files = read_tree(Path(tree), site_name(site), required_block(site).subsite or "")
    return {path: files[path] for path in sorted(files)}


@contextlib.contextmanager
def _problems_of_tree(site: SiteDescription) -> Iterator[None]:
    """What is wrong with the operator's tree is a problem of the field that names it."""
    try:
        yield
    except SiteconfFileError as err:
        where = "runtime.siteconf.tree"
        raise SiteconfFileError(
            tuple(
                Problem(site.file, site.line(where), where, f"{_place(problem)}: {problem.message}", problem.hint)
                for problem in err.problems
            )
        ) from None


def _place(problem: Problem) -> str:
    return f"{problem.file}:{problem.line}" if problem.line else problem.file
