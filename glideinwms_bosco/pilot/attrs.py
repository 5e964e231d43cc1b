# SPDX-License-Identifier: Apache-2.0
"""The attributes by which an entry tells the pilot scripts what the runtime block says. Pure.

All are constants: no frontend may turn them. Those a frontend can match on are published in the factory's ClassAd.
None has `glidein_publish`: what a pilot has found, not what it was told, stands in its machine ad, by the scripts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from glideinwms_bosco.egress.attrs import egress_attrs
from glideinwms_bosco.site.job_wrapper import pilot_rungs
from glideinwms_bosco.site.model import Attr, SiteDescription
from glideinwms_bosco.site.runtime import check_node_value
from glideinwms_bosco.site.siteconf_block import SiteconfBlock
from glideinwms_bosco.site.web_proxies import WebProxies, WebProxy

CVMFSEXEC_DIR = "GWMS_BOSCO_CVMFSEXEC_DIR"
CA_DIR = "GWMS_BOSCO_CA_DIR"
SITECONF_DIR = "GWMS_BOSCO_SITECONF_DIR"
"""Not attributes but what glideinWMS writes when it has unpacked an archive; in glidein_config as `ENTRY_<this>`.

Source: glideinWMS 3.10 creation/web_base/glidein_startup.sh (fetch_file_base) and get_id_selectors.source (get_prefix).
"""


class _Row(NamedTuple):
    name: str
    value: Optional[object]
    publish: bool = False
    type: str = "string"


def runtime_attrs(site: SiteDescription, spread_s: int = 0) -> tuple[Attr, ...]:
    """All attributes, sorted by name; none for a site with neither a runtime nor a network block.

    Args:
        site: the site.
        spread_s: the window in which its pilots start to ask web proxies (s), as the budget of these says.

    Raises:
        SiteError: a value must not reach a node.
    """
    found = list(egress_attrs(site))
    for row in _rows(site, spread_s):
        if row.value is not None:
            value = str(row.value)
            check_node_value(row.name, value)
            # Source of the flags: glideinWMS 3.10 creation/lib/cgWParamDict.py, add_attr_unparsed_real.
            found.append(Attr(row.name, value, row.type, True, True, row.publish, False, False))
    return tuple(sorted(found, key=lambda attr: attr.name))


def _rows(site: SiteDescription, spread_s: int) -> Iterator[_Row]:
    runtime = site.runtime
    if runtime is None:
        return
    if runtime.web_proxies is not None:
        yield from _web_proxy_rows(runtime.web_proxies, spread_s)
    if runtime.siteconf is not None:
        yield from _siteconf_rows(runtime.siteconf, site.cms_site)
    cvmfs, container, credentials = runtime.cvmfs, runtime.container, runtime.credentials
    if cvmfs is not None:
        yield _Row("GWMS_BOSCO_CVMFS_RUNGS", ",".join(pilot_rungs(site)))
        yield _Row("GWMS_BOSCO_CVMFS_REPOS", ",".join(cvmfs.repositories), publish=True)
        yield _Row("GWMS_BOSCO_CVMFS_REQUIRED", cvmfs.required, publish=True)
        yield _Row("GWMS_BOSCO_CVMFS_CACHE", cvmfs.cache)
        yield _Row("GWMS_BOSCO_CVMFS_QUOTA_MB", cvmfs.quota_mb, type="int")
        yield _Row("GWMS_BOSCO_CVMFS_PROXY", cvmfs.proxy)
        yield _Row("GWMS_BOSCO_PARROT", cvmfs.parrot)
        yield _Row("GWMS_BOSCO_PAYLOAD_CVMFS", runtime.payload_cvmfs, publish=True)
    if container is not None:
        yield _Row("GWMS_BOSCO_CONTAINER", container.mode, publish=True)
        yield _Row("GWMS_BOSCO_IMAGE", container.image)
        yield _Row("GWMS_BOSCO_IMAGE_SHA256", container.sha256)
        yield _Row("GWMS_BOSCO_NESTED", container.nested, publish=True)
        # Frontends match on it, and glideinWMS's own script then starts no container in this one.
        yield _Row("GLIDEIN_SINGULARITY_REQUIRE", None if container.nested else "NEVER", publish=True)
    if credentials is not None:
        yield _Row("GWMS_BOSCO_CA", ",".join(credentials.ca))
        yield _Row("GWMS_BOSCO_X509_REQUIRED", credentials.x509_required, publish=True)


def _web_proxy_rows(found: WebProxies, spread_s: int) -> Iterator[_Row]:
    def urls(proxies: tuple[WebProxy, ...]) -> Optional[str]:
        return _listed(tuple(proxy.url for proxy in proxies))

    yield _Row("GWMS_BOSCO_WEB_PROXIES", urls(found.proxies))
    yield _Row("GWMS_BOSCO_WEB_PROXY_BACKUP", urls(found.backup))
    yield _Row("GWMS_BOSCO_WEB_PROXY_DISCOVER", _listed(found.discover))
    yield _Row("GWMS_BOSCO_PAC_URLS", _listed(found.pac_urls) if "pac" in found.discover else None)
    yield _Row("GWMS_BOSCO_WPAD_URLS", _listed(found.wpad_urls) if "wpad" in found.discover else None)
    yield _Row("GWMS_BOSCO_WEB_PROXY_DIRECT", found.direct)
    # Without the attribute there is no such test.
    yield _Row("GWMS_BOSCO_WEB_PROXY_TEST_CVMFS", found.test_cvmfs)
    yield _Row("GWMS_BOSCO_WEB_PROXY_TEST_FRONTIER", found.test_frontier)
    yield _Row("GWMS_BOSCO_WEB_PROXY_MAX_LATENCY_MS", found.max_latency_ms, type="int")
    yield _Row("GWMS_BOSCO_WEB_PROXY_SPREAD_S", spread_s, type="int")


def _siteconf_rows(found: SiteconfBlock, cms_site: Optional[str]) -> Iterator[_Row]:
    yield _Row("GWMS_BOSCO_SITECONF_SITE", found.site or cms_site)
    yield _Row("GWMS_BOSCO_SITECONF_SUBSITE", found.subsite)
    yield _Row("GWMS_BOSCO_SITECONF_PREFER_LOCAL", found.prefer_local)


def _listed(values: tuple[str, ...]) -> Optional[str]:
    return ",".join(values) or None
