# SPDX-License-Identifier: Apache-2.0
"""What every entry of a site brings along: files in the order in which the pilot takes them, and attributes.

glideinWMS runs an entry's scripts in the order of the file, before its own cvmfs_setup and singularity_setup (3.10
creation/web_base/glidein_startup.sh). So archives come first, then who finds the web proxies, then who makes /cvmfs
by way of them, then who needs it, and all of ours before those of the operator.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import PilotError, Problem, SiteconfError
from glideinwms_bosco.pilot.attrs import CA_DIR, CVMFSEXEC_DIR, SITECONF_DIR, runtime_attrs
from glideinwms_bosco.pilot.distribution import pack_ca, pack_cvmfsexec
from glideinwms_bosco.pilot.scripts import pack_script, read_sources
from glideinwms_bosco.pilot.storage_hosts import unreached_storage
from glideinwms_bosco.pilot.tree import Member, gzipped, tar_stream
from glideinwms_bosco.site.job_wrapper import pilot_rungs
from glideinwms_bosco.site.model import Attr, SiteDescription
from glideinwms_bosco.site.runtime import CVMFSEXEC_RUNGS, Runtime
from glideinwms_bosco.siteconf.of_site import siteconf_problems
from glideinwms_bosco.siteconf.render import Link, archive_files

CHECK_PERIOD_S = 600
PROXY_CHECK_PERIOD_S = 300
EGRESS_CHECK_PERIOD_S = 60
EXECUTABLE, WRAPPER, UNTAR = "executable", "wrapper", "untar"
_ARCHIVE_SUFFIX = ".tar.gz"
_DIGEST_CHARS = 32
_CVMFSEXEC = "gwms_bosco_cvmfsexec"
_CA = "gwms_bosco_ca"
_SITECONF = "gwms_bosco_siteconf"
_FILE_MODE, _LINK_MODE = 0o644, 0o777


@dataclass(frozen=True)
class PilotFile:
    """One `<file>`.

    Attributes:
        name: what it is called on the node; of an archive the folder it is unpacked in.
        content: of an archive the tar stream, which is compressed when it is stored.
        kind: executable, wrapper or untar: the XML attribute that is True.
        period_s: how often an executable is run again; 0: never.
        attribute: key of glidein_config that gets the folder of an archive, without glideinWMS's prefix.
    """

    name: str
    content: bytes
    kind: str
    period_s: int = 0
    attribute: Optional[str] = None

    @functools.cached_property
    def stored_name(self) -> str:
        """Its name on the factory: never again for other content, so no reconfig finds a changed file."""
        digest = hashlib.sha256(self.content).hexdigest()[:_DIGEST_CHARS]
        return f"{self.name}-{digest}{_ARCHIVE_SUFFIX if self.kind == UNTAR else ''}"

    @property
    def node_name(self) -> str:
        """Its name on the node."""
        return self.name + (_ARCHIVE_SUFFIX if self.kind == UNTAR else "")

    def stored_content(self) -> bytes:
        """The bytes of the file on the factory."""
        return gzipped(self.content) if self.kind == UNTAR else self.content


@dataclass(frozen=True)
class PilotPlan:
    """Files in order, and attributes sorted by name; the same for all entries of a site."""

    files: tuple[PilotFile, ...] = ()
    attrs: tuple[Attr, ...] = ()


NOTHING = PilotPlan()
"""Of a site with neither a runtime nor a network block."""


def pilot_plan(site: SiteDescription, scripts_dir: Path, spread_s: int = 0) -> tuple[PilotPlan, tuple[Problem, ...]]:
    """Read and pack what the runtime block of a site names.

    Args:
        site: the site.
        scripts_dir: where the pilot scripts lie.
        spread_s: the window in which its pilots start to ask web proxies (s).

    Returns:
        The plan, and what stands against it or may surprise; with an error the plan lacks that part, or payloads
        could not read the SITECONF in it.
    """
    if site.runtime is None and site.network is None:
        return NOTHING, ()
    files: list[PilotFile] = []
    problems: list[Problem] = []
    for field, make in _parts(site, scripts_dir):
        try:
            files += make()
        except (PilotError, SiteconfError) as err:
            problems += err.problems or [Problem(site.file, site.line(field), field, err.message, err.hint)]
    if any(file.name == _SITECONF for file in files):
        # Well packed, it may still be one that no payload can read.
        problems += siteconf_problems(site)
        problems += unreached_storage(site)
    return PilotPlan(tuple(files), runtime_attrs(site, spread_s)), tuple(problems)


def script_files(site: SiteDescription, sources: Mapping[str, str]) -> tuple[PilotFile, ...]:
    """The packed scripts that a site asks for, in the order they run.

    Raises:
        PilotError: one of them cannot be packed.
    """
    return tuple(
        PilotFile(name, pack_script(name, sources), kind, period_s) for name, kind, period_s in _script_names(site)
    )


def _script_names(site: SiteDescription) -> Iterator[tuple[str, str, int]]:
    network = site.network
    if network is not None:
        # Without a way out nothing else can succeed.
        yield "egress_setup", EXECUTABLE, 0
    if site.runtime is not None:
        yield from _runtime_script_names(site, site.runtime)
    if network is not None and network.payloads:
        yield "egress_wrapper.sh", WRAPPER, 0
    if network is not None:
        yield "egress_check", EXECUTABLE, EGRESS_CHECK_PERIOD_S


def _runtime_script_names(site: SiteDescription, runtime: Runtime) -> Iterator[tuple[str, str, int]]:
    contained = runtime.container is not None and runtime.container.mode != "never"
    if runtime.web_proxies is not None:
        yield "proxy_setup", EXECUTABLE, 0
    if runtime.cvmfs is not None:
        yield "cvmfs_setup", EXECUTABLE, 0
        yield "cvmfs_check", EXECUTABLE, CHECK_PERIOD_S
    if runtime.siteconf is not None:
        # After CVMFS, as a tree there may be that of the site; before the container, which binds what is made.
        yield "siteconf_setup", EXECUTABLE, 0
    if runtime.credentials is not None:
        yield "credentials_setup", EXECUTABLE, 0
    if contained or "container" in pilot_rungs(site):
        # After the credentials: a CA directory that cannot be bound must fail the trial and not the payloads.
        yield "container_setup", EXECUTABLE, 0
    if runtime.cvmfs is not None or contained:
        # It also keeps jobs that ask for CVMFS away from a pilot that has none.
        yield "payload_setup", EXECUTABLE, 0
    if (runtime.cvmfs is not None and runtime.payload_cvmfs != "never") or contained or runtime.siteconf is not None:
        # It also hands SITECONFIG_PATH to a frontend's containers that start with an emptied environment.
        yield "payload_wrapper.sh", WRAPPER, 0
    if runtime.web_proxies is not None:
        yield "proxy_check", EXECUTABLE, PROXY_CHECK_PERIOD_S


def _parts(site: SiteDescription, scripts_dir: Path) -> Iterator[tuple[str, functools.partial[tuple[PilotFile, ...]]]]:
    """The field each part follows from, and what makes it."""
    if site.runtime is not None:
        yield from _archives(site, site.runtime)
    scripts = functools.partial(_scripts, site, scripts_dir)
    yield "runtime" if site.runtime is not None else "network", scripts


def _archives(
    site: SiteDescription, runtime: Runtime
) -> Iterator[tuple[str, functools.partial[tuple[PilotFile, ...]]]]:
    if runtime.cvmfs is not None and runtime.cvmfs.cvmfsexec is not None and CVMFSEXEC_RUNGS & set(pilot_rungs(site)):
        given = runtime.cvmfs.cvmfsexec
        yield "runtime.cvmfs.cvmfsexec", functools.partial(_cvmfsexec_file, Path(given.path), given.sha256)
    if runtime.credentials is not None and "shipped" in runtime.credentials.ca and runtime.credentials.ca_dir:
        yield "runtime.credentials.ca_dir", functools.partial(_ca_file, Path(runtime.credentials.ca_dir))
    if runtime.siteconf is not None:
        yield "runtime.siteconf", functools.partial(_siteconf_file, site)


def _scripts(site: SiteDescription, scripts_dir: Path) -> tuple[PilotFile, ...]:
    return script_files(site, read_sources(scripts_dir)) if any(_script_names(site)) else ()


# Many sites name the same distribution, and reading one takes half a second.
@functools.lru_cache(maxsize=4)
def _cvmfsexec_file(path: Path, sha256: Optional[str]) -> tuple[PilotFile, ...]:
    return (PilotFile(_CVMFSEXEC, pack_cvmfsexec(path, sha256), UNTAR, attribute=CVMFSEXEC_DIR),)


def _ca_file(folder: Path) -> tuple[PilotFile, ...]:
    return (PilotFile(_CA, pack_ca(folder), UNTAR, attribute=CA_DIR),)


def _siteconf_file(site: SiteDescription) -> tuple[PilotFile, ...]:
    tree = {
        path: Member(_LINK_MODE, target=found.target) if isinstance(found, Link) else Member(_FILE_MODE, content=found)
        for path, found in archive_files(site).items()
    }
    return (PilotFile(_SITECONF, tar_stream(tree), UNTAR, attribute=SITECONF_DIR),)
