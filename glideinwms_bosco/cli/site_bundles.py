# SPDX-License-Identifier: Apache-2.0
"""Bundles of sites, as one command needs them: which HTCondor source fits a machine, and the bundle made from it.

With one source there is nothing to choose, and the login node is not asked before the bundle is there. With several it
is asked first; what a source is, and each bundle, is found out once for all accounts.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Optional, Union

from glideinwms_bosco.bundle import Bundle, BundleRequest, site_request
from glideinwms_bosco.bundle.overrides import read_overrides
from glideinwms_bosco.bundle.platform import SourcePlatform, read_platform
from glideinwms_bosco.bundle.store import BundleStore
from glideinwms_bosco.cli.fleet_bundles import SharedBundles
from glideinwms_bosco.cli.job_wrapper import job_wrapper
from glideinwms_bosco.cli.settings import Settings
from glideinwms_bosco.errors import BundleError, SiteFileError, UsageError
from glideinwms_bosco.remote.platform import Candidate, Choice, Machine, ask_machine, choose, libraries_of
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.site.source import HTCondorSource

_LOCAL_GAHP = Path("/usr/sbin/remote_gahp")


class SiteBundles:
    """Used by all threads of a command."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shared = SharedBundles()
        self._store = BundleStore(settings.state_dir / "bundles" / "built", settings.state_dir)
        # Two, since a download can take minutes: what needs none does not wait for it.
        self._platform_lock = threading.Lock()
        self._request_lock = threading.Lock()
        self._platforms: dict[HTCondorSource, Union[SourcePlatform, BundleError]] = {}
        self._requests: dict[str, BundleRequest] = {}

    def sources(self, site: SiteDescription) -> tuple[HTCondorSource, ...]:
        """The HTCondor sources of a site: its own, else the host's, else the HTCondor of this host.

        Raises:
            UsageError: neither the site nor the settings name a source.
        """
        named = site.install.htcondor or self._settings.htcondor
        if named:
            return named
        if not _LOCAL_GAHP.exists():
            raise UsageError(
                "no HTCondor source is named and this host has no HTCondor",
                "set `htcondor` in gwms-bosco.yaml or `install.htcondor` in the site file",
            )
        return (HTCondorSource(root="/"),)

    def depends_on_machine(self, site: SiteDescription) -> bool:
        """Whether there is a choice, so that the login node must be asked first."""
        return len(site.install.htcondor or self._settings.htcondor) > 1

    def get(
        self, site: SiteDescription, machine: Optional[Machine] = None, where: str = "this platform"
    ) -> tuple[Bundle, Choice]:
        """The bundle for a machine, or of the newest source when no machine is given, and how it was chosen.

        Raises:
            UsageError: there is no source.
            PlatformError: no source runs on the machine.
            SiteFileError: a file that is laid over the bundle cannot be used.
            BundleError: a source or setting cannot be used.
            PilotError: the job wrapper of a closed site cannot be packed.
        """
        request = self._request(site)
        choice = self._choice(site, request, machine, where)
        bundle = self._shared.get((choice.source, request), lambda: self._store.get(choice.source, request))
        return bundle, choice

    def get_for(self, session: SshSession, site: SiteDescription) -> tuple[Bundle, Choice]:
        """The bundle for the login node of an open session, which is asked only when there is a choice.

        Raises:
            RemoteError: as `ask_machine`.
            PlatformError, BundleError: and the others of `get`.
        """
        if not self.depends_on_machine(site):
            return self.get(site)
        return self.get(site, ask_machine(session, libraries_of(self._candidates(site))), session.label)

    def platforms(self, site: SiteDescription) -> tuple[SourcePlatform, ...]:
        """What the site's sources run on.

        Raises:
            BundleError: none of them can be read.
            UsageError: there is none.
        """
        candidates = self._candidates(site)
        found = tuple(c.platform for c in candidates if isinstance(c.platform, SourcePlatform))
        if not found:
            choose(candidates, None, "this host")  # raises
        return found

    def _choice(self, site: SiteDescription, request: BundleRequest, machine: Optional[Machine], where: str) -> Choice:
        sources = self.sources(site)
        if len(sources) == 1 and machine is None:
            return Choice(sources[0], sources[0].place, ())
        brought = frozenset(file.path[len("lib/") :] for file in request.extra_files if file.path.startswith("lib/"))
        return choose(self._candidates(site), machine, where, brought)

    def _candidates(self, site: SiteDescription) -> tuple[Candidate, ...]:
        return tuple(Candidate(source, self._platform(source)) for source in self.sources(site))

    def _platform(self, source: HTCondorSource) -> Union[SourcePlatform, BundleError]:
        """What a source is; the lock is held meanwhile, since a download must not be made twice."""
        with self._platform_lock:
            if source not in self._platforms:
                try:
                    self._platforms[source] = read_platform(source, self._settings.state_dir / "sources")
                except BundleError as error:
                    self._platforms[source] = error
            return self._platforms[source]

    def _request(self, site: SiteDescription) -> BundleRequest:
        with self._request_lock:
            if site.file not in self._requests:
                files, problems = read_overrides(site, self._settings.overrides_dir)
                if problems:
                    raise SiteFileError(problems)
                host_settings = self._settings.host_settings(site.batch.system)
                self._requests[site.file] = site_request(site, host_settings, files, job_wrapper(site, self._settings))
            return self._requests[site.file]
