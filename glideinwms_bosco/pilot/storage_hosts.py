# SPDX-License-Identifier: Apache-2.0
"""Storage that payloads of a closed site read from and write to, whose hosts its network block does not let out.

What the site file names is a volume; its hosts stand in the storage.json of a sibling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Union

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.crosscheck_network_reach import url_is_reached
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.siteconf.model import CatalogRef, Siteconf, StageOutMethod
from glideinwms_bosco.siteconf.sources import described_siteconf

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9.-]+(:[0-9]+)?")


def unreached_storage(site: SiteDescription) -> Iterator[Problem]:
    """Find storage that no forward leads to; a site that ships its own tree is not looked at.

    Raises:
        SiteconfError: the SITECONF cannot be made.
    """
    block = site.runtime.siteconf if site.runtime is not None else None
    if site.network is None or not site.network.payloads or block is None or block.tree is not None:
        return
    siteconf = described_siteconf(site)
    refs: tuple[tuple[str, Sequence[Union[CatalogRef, StageOutMethod]]], ...] = (
        ("data_access", siteconf.config.data_access),
        ("stage_out", siteconf.config.stage_out),
    )
    for name, named in refs:
        urls = dict.fromkeys(url for ref in named for url in _urls(siteconf, ref))
        lost = [url for url in urls if not url_is_reached(site.network, url)]
        if lost:
            field = f"runtime.siteconf.{name}"
            message = f"payloads would not reach {', '.join(lost)}: no forward leads there"
            hint = "add forwards, spelled as there, or name volumes that are reached"
            yield Problem(site.file, site.line(field), field, message, hint, "warning")


def _urls(siteconf: Siteconf, ref: Union[CatalogRef, StageOutMethod]) -> Iterator[str]:
    """Scheme, host and port of whatever a volume's protocol gives."""
    site = ref.site or siteconf.config.site
    for items in (siteconf.storage, *siteconf.siblings.values()):
        for item in items:
            if (item.site, item.volume) != (site, ref.volume):
                continue
            for offered in item.protocols:
                if offered.protocol == ref.protocol:
                    for text in (offered.prefix or "", *(rule.pfn for rule in offered.rules)):
                        found = _URL.match(text)
                        if found is not None:
                            yield found[0]
