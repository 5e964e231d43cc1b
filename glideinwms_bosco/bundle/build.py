# SPDX-License-Identifier: Apache-2.0
"""Build a bundle: find HTCondor's files, add ours, repair, and describe the result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Callable, Optional

from glideinwms_bosco.bundle import repairs, settings
from glideinwms_bosco.bundle.download import open_tarball
from glideinwms_bosco.bundle.elf import ElfInfo, common_machine, highest_glibc, read_elf
from glideinwms_bosco.bundle.layout import (
    BINARIES,
    BLAH_CONFIG,
    BLAH_CONFIG_PATH,
    CONF_PATH,
    EXECUTABLE,
    FT_GAHP_CONFIG_PATH,
    HTCONDOR_SONAMES,
    LAUNCHER,
    LAYOUTS,
    LIBRARY_DIRS,
    PLAIN,
    SCRIPT_DIRS,
)
from glideinwms_bosco.bundle.manifest import FORMAT_VERSION, BundleFile, LinkEntry, Manifest, Repair, tree_digest
from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.bundle.request import BundleRequest
from glideinwms_bosco.bundle.tarball import TarballTree
from glideinwms_bosco.bundle.tree import InstalledTree, SourceFile, SourceTree
from glideinwms_bosco.errors import SourceError
from glideinwms_bosco.site.source import HTCondorSource

Progress = Callable[[str, int, int], None]

_VERSION = re.compile(rb"\$CondorVersion: ([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}) [^$\n\0]{0,200}\$")
_PLATFORM = re.compile(rb"\$CondorPlatform: ([A-Za-z0-9_.+-]{1,100}) ?\$")
_OURS = "gwms-bosco"
_STAGES = 4


def build_bundle(source: HTCondorSource, request: BundleRequest, *, progress: Optional[Progress] = None) -> Bundle:
    """Build the smallest install bundle for a batch system.

    Args:
        source: an installed HTCondor or a release tarball.
        request: what the site asks for.
        progress: called as progress(stage, done, total) when a stage begins and when all is done.

    Raises:
        SourceError: the source misses a file, is damaged or mixed.
        RepairError: a repair does not know the file it is for, or patchelf is missing.
    """
    report = progress if progress is not None else _silent
    with _open(source) as tree:
        report("reading HTCondor", 0, _STAGES)
        builder = _Builder(tree, request)
        builder.add_binaries()
        builder.add_scripts()
    report("adding site files", 1, _STAGES)
    builder.add_own()
    report("repairing", 2, _STAGES)
    builder.repair()
    report("describing", 3, _STAGES)
    bundle = builder.bundle()
    report("done", _STAGES, _STAGES)
    return bundle


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def _open(source: HTCondorSource) -> Iterator[SourceTree]:
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
    """The steps of one build, in the order build_bundle calls them."""

    def __init__(self, tree: SourceTree, request: BundleRequest) -> None:
        self._tree = tree
        self._request = request
        self._layout = LAYOUTS[request.batch_system]
        self._files: dict[str, BundleFile] = {}
        self._links: dict[str, str] = {}
        self._elf: dict[str, ElfInfo] = {}
        self._repairs: list[Repair] = []
        self._label = tree.label

    def add_binaries(self) -> None:
        """Take blahpd, condor_ft-gahp and, breadth first, the libraries of HTCondor that they ask for."""
        for name, candidates in BINARIES.items():
            self._add_elf(f"libexec/{name}.bin", self._must(name, candidates), EXECUTABLE)
        pending = list(self._elf.values())
        while pending:
            for soname in pending.pop(0).needed:
                path = f"lib/{soname}"
                found = None if path in self._files else self._tree.find(_library_candidates(soname))
                if found is not None:
                    pending.append(self._add_elf(path, found, PLAIN))
                elif path not in self._files and soname.startswith(HTCONDOR_SONAMES):
                    raise self._missing(soname, LIBRARY_DIRS)

    def add_scripts(self) -> None:
        """Take blahp's scripts and its configuration with the site's settings put in."""
        for name in self._layout.scripts:
            candidates = tuple(f"{directory}/{name}" for directory in SCRIPT_DIRS)
            mode = PLAIN if name == "blah.py" else EXECUTABLE
            self._add(f"libexec/{name}", self._must(name, candidates), mode)
        config = self._must("blah.config", BLAH_CONFIG)
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
        self._files[CONF_PATH] = BundleFile(settings.bosco_conf(self._request), PLAIN, _OURS)
        self._files[FT_GAHP_CONFIG_PATH] = BundleFile(settings.ft_gahp_config(self._request), PLAIN, _OURS)

    def repair(self) -> None:
        """Apply the repairs that find their defect."""
        bundled = {path[len("lib/") :] for path in self._files if path.startswith("lib/")}
        for path, info in sorted(self._elf.items()):
            if repairs.needs_runpath(info, bundled):
                self._replace(path, repairs.runpath(self._files[path].content, path))
                self._repairs.append(Repair("runpath", path, repairs.RUNPATH_WHY))
        path = "libexec/blah.py"
        if path in self._files:
            cured = repairs.blah_readfp(self._files[path].content, path, self._version()[0])
            if cured is not None:
                self._replace(path, cured)
                self._repairs.append(Repair("blah-readfp", path, repairs.BLAH_READFP_WHY))

    def bundle(self) -> Bundle:
        """Describe what was collected."""
        files = tuple(file.entry(path) for path, file in sorted(self._files.items()))
        links = tuple(LinkEntry(path, target) for path, target in sorted(self._links.items()))
        version, platform = self._version()
        needed = {soname for info in self._elf.values() for soname in info.needed}
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            digest=tree_digest(files, links),
            batch_system=self._request.batch_system,
            bosco_dir=self._request.bosco_dir,
            htcondor_version=version,
            htcondor_platform=platform,
            source=f"{self._tree.kind} {version} {self._tree.place}",
            architecture=common_machine(self._elf),
            glibc_min=highest_glibc(self._elf.values()),
            system_libraries=tuple(sorted(name for name in needed if f"lib/{name}" not in self._files)),
            remote_commands=self._layout.remote_commands,
            known_limits=self._layout.known_limits,
            repairs=tuple(self._repairs),
            files=files,
            links=links,
        )
        return Bundle(manifest, self._files, self._links)

    def _version(self) -> tuple[str, str]:
        """Return version and platform as the programs state them; all that state a version must agree."""
        versions: dict[str, str] = {}
        platform = ""
        for path in sorted(self._elf):
            match = _VERSION.search(self._files[path].content)
            if match is not None:
                versions.setdefault(match.group(1).decode("ascii"), path)
                found = _PLATFORM.search(self._files[path].content)
                platform = platform or (found.group(1).decode("ascii") if found is not None else "")
        if not versions or not platform:
            raise SourceError(f"{self._label}: no $CondorVersion$ in condor_ft-gahp", "this is no HTCondor build")
        if len(versions) > 1:
            raise SourceError(
                f"{self._label}: holds files of HTCondor {' and '.join(sorted(versions))}", "use one package"
            )
        return next(iter(versions)), platform

    def _must(self, name: str, candidates: Sequence[str]) -> SourceFile:
        found = self._tree.find(candidates)
        if found is None:
            raise self._missing(name, candidates)
        return found

    def _missing(self, name: str, candidates: Sequence[str]) -> SourceError:
        return SourceError(
            f"{self._label}: no {name} (looked at {', '.join(candidates)})",
            "install HTCondor with its blahp part there, or name another source",
        )

    def _add(self, path: str, found: SourceFile, mode: int) -> None:
        self._files[path] = BundleFile(found.content, mode, found.path)

    def _add_elf(self, path: str, found: SourceFile, mode: int) -> ElfInfo:
        info = read_elf(found.content, found.path)
        self._add(path, found, mode)
        self._elf[path] = info
        return info

    def _replace(self, path: str, content: bytes) -> None:
        old = self._files[path]
        self._files[path] = BundleFile(content, old.mode, old.origin)


def _library_candidates(soname: str) -> tuple[str, ...]:
    if "/" in soname:
        return ()
    htcondor = soname.startswith(HTCONDOR_SONAMES)
    return tuple(f"{place}/{soname}" for place in LIBRARY_DIRS if htcondor or place.endswith("/condor"))


def _own(resource: str, mode: int) -> BundleFile:
    content = resources.files("glideinwms_bosco.bundle").joinpath("files", *resource.split("/")).read_bytes()
    return BundleFile(content, mode, f"{_OURS}:{resource}")
