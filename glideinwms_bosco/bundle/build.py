# SPDX-License-Identifier: Apache-2.0
"""Build a bundle: find HTCondor's files, add ours, repair, and describe the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Callable, Optional

from glideinwms_bosco.bundle import repairs, settings
from glideinwms_bosco.bundle.download import open_tarball
from glideinwms_bosco.bundle.elf import ElfInfo, common_machine, highest_glibc, read_elf
from glideinwms_bosco.bundle.extra import ExtraFile
from glideinwms_bosco.bundle.layout import (
    BINARIES,
    BLAH_CONFIG,
    BLAH_CONFIG_PATH,
    CONF_PATH,
    EXECUTABLE,
    FT_GAHP_CONFIG_PATH,
    LAUNCHER,
    LAYOUTS,
    PLAIN,
    SCRIPT_DIRS,
)
from glideinwms_bosco.bundle.manifest import (
    FORMAT_VERSION,
    BundleFile,
    LinkEntry,
    Manifest,
    Override,
    Repair,
    tree_digest,
)
from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.bundle.programs import collect_programs, must_find
from glideinwms_bosco.bundle.request import ORIGIN, BundleRequest
from glideinwms_bosco.bundle.tarball import TarballTree
from glideinwms_bosco.bundle.tree import InstalledTree, SourceTree
from glideinwms_bosco.errors import BundleError
from glideinwms_bosco.site.source import HTCondorSource

Progress = Callable[[str, int, int], None]

_STAGES = 4


def build_bundle(source: HTCondorSource, request: BundleRequest, *, progress: Optional[Progress] = None) -> Bundle:
    """Build the smallest install bundle for a batch system.

    Args:
        source: an installed HTCondor or a release tarball.
        request: what the site asks for.
        progress: called as progress(stage, done, total) when a stage begins and when all is done.

    Raises:
        SourceError: the source misses a file, is damaged or mixed.
        BundleError: an extra file does not fit the source.
        RepairError: a repair does not know the file it is for, or patchelf is missing.
    """
    report = progress if progress is not None else _silent
    with open_source(source) as tree:
        report("reading HTCondor", 0, _STAGES)
        builder = _Builder(tree, request)
        builder.add_scripts()
    report("adding site files", 1, _STAGES)
    builder.add_own()
    builder.lay_over()
    report("repairing", 2, _STAGES)
    builder.repair()
    report("describing", 3, _STAGES)
    bundle = builder.bundle()
    report("done", _STAGES, _STAGES)
    return bundle


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def open_source(source: HTCondorSource) -> Iterator[SourceTree]:
    """The files of a source, as long as the block runs.

    Raises:
        SourceError: it cannot be read, or a tarball is not the one that its digest says.
    """
    if source.root is not None:
        yield InstalledTree(source.root)
        return
    place, sha256 = str(source.tarball), str(source.sha256)  # HTCondorSource has checked that both are there
    tree = TarballTree(open_tarball(place), sha256, place.rpartition("/")[2])
    try:
        yield tree
    finally:
        tree.close()


class _Builder:
    """The steps of one build, in the order build_bundle calls them; the programs are there from the beginning."""

    def __init__(self, tree: SourceTree, request: BundleRequest) -> None:
        self._tree = tree
        self._request = request
        self._layout = LAYOUTS[request.batch_system]
        self._programs = collect_programs(tree)
        programs = self._programs.files.items()
        self._files = {path: BundleFile(found.content, _program_mode(path), found.path) for path, found in programs}
        self._elf: dict[str, ElfInfo] = dict(self._programs.elf)
        self._links: dict[str, str] = {}
        self._overrides: dict[str, Override] = {}
        self._repairs: list[Repair] = []

    def add_scripts(self) -> None:
        """Take blahp's scripts and its configuration with the site's settings put in."""
        for name in self._layout.scripts:
            candidates = tuple(f"{directory}/{name}" for directory in SCRIPT_DIRS)
            mode = PLAIN if name == "blah.py" else EXECUTABLE
            found = must_find(self._tree, name, candidates)
            self._files[f"libexec/{name}"] = BundleFile(found.content, mode, found.path)
        config = must_find(self._tree, "blah.config", BLAH_CONFIG)
        content = settings.blah_config(config.content, self._request)
        self._files[BLAH_CONFIG_PATH] = BundleFile(content, PLAIN, config.path)

    def add_own(self) -> None:
        """Add launchers, our scripts, the pass-through links and our configuration."""
        for name in BINARIES:
            self._files[f"bin/{name}"] = _own(LAUNCHER, EXECUTABLE)
        for own in self._layout.own:
            self._files[own.path] = _own(own.resource, own.mode)
        for command in self._layout.passthrough:
            self._links[f"libexec/{self._request.batch_system}/{command}"] = "passthrough"
        self._files[CONF_PATH] = BundleFile(settings.bosco_conf(self._request), PLAIN, ORIGIN)
        self._files[FT_GAHP_CONFIG_PATH] = BundleFile(settings.ft_gahp_config(self._request), PLAIN, ORIGIN)
        for file in self._request.own_files:
            self._files[file.path] = BundleFile(file.content, file.final_mode(self._request.batch_system), file.origin)

    def lay_over(self) -> None:
        """Put the extra files beside what is there, or in its place, as they are."""
        architecture, glibc_min = common_machine(dict(self._programs.elf)), highest_glibc(self._programs.elf.values())
        for file in self._request.extra_files:
            self._check_place(file)
            self._elf.pop(file.path, None)
            if file.is_elf:
                self._elf[file.path] = _fitting_elf(file, architecture, glibc_min)
            old, link = self._files.get(file.path), self._links.pop(file.path, None)
            new = BundleFile(file.content, file.final_mode(self._request.batch_system), file.origin)
            self._files[file.path] = new
            self._overrides[file.path] = Override(
                file.path,
                new.entry(file.path).sha256,
                file.origin,
                old.entry(file.path).sha256 if old is not None else "",
                old.origin if old is not None else f"link to {link}" if link is not None else "",
            )

    def _check_place(self, file: ExtraFile) -> None:
        known = {*self._files, *self._links}
        parts = file.path.split("/")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if above & known or any(path.startswith(f"{file.path}/") for path in known):
            raise BundleError(
                f"{file.origin}: {file.path} is a folder of the bundle, or lies below a file", "rename it"
            )

    def repair(self) -> None:
        """Apply the repairs that find their defect; what was laid over is left as it is."""
        bundled = {path[len("lib/") :] for path in self._files if path.startswith("lib/")}
        for path, info in sorted(self._elf.items()):
            if path not in self._overrides and repairs.needs_runpath(info, bundled):
                self._replace(path, repairs.runpath(self._files[path].content, path))
                self._repairs.append(Repair("runpath", path, repairs.RUNPATH_WHY))
        path = "libexec/blah.py"
        if path in self._files and path not in self._overrides:
            cured = repairs.blah_readfp(self._files[path].content, path, self._programs.htcondor_version)
            if cured is not None:
                self._replace(path, cured)
                self._repairs.append(Repair("blah-readfp", path, repairs.BLAH_READFP_WHY))

    def bundle(self) -> Bundle:
        """Describe what was collected."""
        files = tuple(file.entry(path) for path, file in sorted(self._files.items()))
        links = tuple(LinkEntry(path, target) for path, target in sorted(self._links.items()))
        version = self._programs.htcondor_version
        needed = {soname for info in self._elf.values() for soname in info.needed}
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            digest=tree_digest(files, links),
            batch_system=self._request.batch_system,
            bosco_dir=self._request.bosco_dir,
            htcondor_version=version,
            htcondor_platform=self._programs.htcondor_platform,
            source=f"{self._tree.kind} {version} {self._tree.place}",
            architecture=common_machine(self._elf),
            glibc_min=highest_glibc(self._elf.values()),
            system_libraries=tuple(sorted(name for name in needed if f"lib/{name}" not in self._files)),
            remote_commands=self._layout.remote_commands,
            known_limits=self._layout.known_limits,
            repairs=tuple(self._repairs),
            overrides=tuple(override for _, override in sorted(self._overrides.items())),
            settings=self._request.settings,
            files=files,
            links=links,
        )
        return Bundle(manifest, self._files, self._links)

    def _replace(self, path: str, content: bytes) -> None:
        old = self._files[path]
        self._files[path] = BundleFile(content, old.mode, old.origin)


def _program_mode(path: str) -> int:
    return EXECUTABLE if path.startswith("libexec/") else PLAIN


def _fitting_elf(file: ExtraFile, architecture: str, glibc_min: str) -> ElfInfo:
    """Read a program or library that is laid over.

    Raises:
        BundleError: it would not run wherever the rest of the bundle does.
    """
    info = read_elf(file.content, f"{file.origin}: {file.path}")
    if info.machine != architecture:
        raise BundleError(
            f"{file.origin}: {file.path} is for {info.machine}, the bundle is for {architecture}",
            "lay a file over that is built for the login node",
        )
    if glibc_min and info.glibc is not None and info.glibc > tuple(map(int, glibc_min.split("."))):
        raise BundleError(
            f"{file.origin}: {file.path} needs glibc {'.'.join(map(str, info.glibc))}, the bundle only {glibc_min}",
            "build that file on an older system",
        )
    return info


def _own(resource: str, mode: int) -> BundleFile:
    content = resources.files("glideinwms_bosco.bundle").joinpath("files", *resource.split("/")).read_bytes()
    return BundleFile(content, mode, f"{ORIGIN}:{resource}")
