# SPDX-License-Identifier: Apache-2.0
"""What the real WMCore reads in a SITECONF: a thin cover over its own classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
from WMCore.Storage.RucioFileCatalog import readRFC, storageJsonPath
from WMCore.Storage.SiteLocalConfig import loadSiteLocalConfig
from WMCore.Storage.TrivialFileCatalog import readTFC, tfcFilename, tfcProtocol


@dataclass(frozen=True)
class WMCoreView:
    """One SITECONFIG_PATH as WMCore sees it; `old_top`: where the tree stands that old catalogs name."""

    config: Any
    old_top: Path

    def stage_outs(self, lfn: str) -> Iterator[tuple[str, Optional[str], Optional[str], Optional[str]]]:
        """Command, option, Rucio storage element and PFN of each way out, in order."""
        for method in self.config.stageOuts:
            place = (method["storageSite"], method["volume"], method["protocol"])
            pfn = self.pfn(*place, lfn)
            yield method["command"], method["option"], method["phedex-node"], pfn

    def pfn(self, site: str, volume: str, protocol: str, lfn: str) -> Optional[str]:
        """A PFN by storage.json."""
        path = storageJsonPath(self.config.siteName, self.config.subSiteName, site)
        found: Optional[str] = readRFC(path, site, volume, protocol).matchLFN(protocol, lfn)
        return found

    def old_pfn(self, url: str, lfn: str) -> Optional[str]:
        """A PFN by an old catalog."""
        path = tfcFilename(url).replace("/etc/cvmfs/SITECONF", str(self.old_top))
        found: Optional[str] = readTFC(path).matchLFN(tfcProtocol(url), lfn)
        return found


def read_as_wmcore(tree: Path, monkeypatch: pytest.MonkeyPatch, node: str = "local") -> WMCoreView:
    """Read the configuration that `local`, or a site's folder, names."""
    monkeypatch.setenv("SITECONFIG_PATH", str(tree / node))
    for name in ("WMAGENT_SITE_CONFIG_OVERRIDE", "WMAGENT_RUCIO_CATALOG_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    return WMCoreView(loadSiteLocalConfig(), tree)
