# SPDX-License-Identifier: Apache-2.0
"""Rules of CMS's own validation (PSST, SAM, the SITECONF repository): names, and words of a fixed list.

Source: CMS TWiki SiteConfInGitlab (storage.json keys); what PSST and SAM ask of site-local-config.xml is also
WMCore's, and is checked there.
"""

from __future__ import annotations

import re

from glideinwms_bosco.siteconf.model import LOCAL_NAME
from glideinwms_bosco.siteconf.scope import Scope, shown

ACCESS = ("global-rw", "global-ro", "site-rw", "site-ro", "virtual")
TYPES = ("DISK", "TAPE")
_SITE = re.compile(r"T[0-3]_[A-Z]{2}_[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*")


def check_validation(scope: Scope) -> None:
    """Apply them all."""
    site = scope.config.site
    if site and not _SITE.fullmatch(site):
        scope.found(70, scope.line("site"), f"site {shown(site)}")
    folder = scope.tree.site_folder
    if site and folder not in (site, LOCAL_NAME):
        scope.found(71, scope.line("site"), f"site {shown(site)} lies in a folder named {shown(folder)}")
    for name, file in scope.tree.storage_files.items():
        for item in scope.tree.siteconf.storage_of(name) or ():
            if item.type not in TYPES:
                scope.found(46, item.line, f"type of {item.volume}: {_words(item.type)}", file)
            for protocol in item.protocols:
                if protocol.access not in ACCESS:
                    message = f"access of {item.volume} {protocol.protocol}: {_words(protocol.access)}"
                    scope.found(44, protocol.line, message, file)


def _words(value: object) -> str:
    return "missing" if value is None else shown(str(value))
