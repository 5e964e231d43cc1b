# SPDX-License-Identifier: Apache-2.0
"""The attributes by which an entry tells the pilot scripts what the runtime block says. Pure.

All are constants: no frontend may turn them. Those a frontend can match on are published in the factory's ClassAd.
None has `glidein_publish`: what a pilot has found, not what it was told, stands in its machine ad, by the scripts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from glideinwms_bosco.site.model import Attr
from glideinwms_bosco.site.runtime import Runtime, check_node_value

CVMFSEXEC_DIR = "GWMS_BOSCO_CVMFSEXEC_DIR"
CA_DIR = "GWMS_BOSCO_CA_DIR"
"""Not attributes but what glideinWMS writes when it has unpacked an archive; in glidein_config as `ENTRY_<this>`.

Source: glideinWMS 3.10 creation/web_base/glidein_startup.sh (fetch_file_base) and get_id_selectors.source (get_prefix).
"""


class _Row(NamedTuple):
    name: str
    value: Optional[object]
    publish: bool = False
    type: str = "string"


def runtime_attrs(runtime: Runtime) -> tuple[Attr, ...]:
    """All attributes, sorted by name.

    Raises:
        SiteError: a value must not reach a node.
    """
    found = []
    for row in _rows(runtime):
        if row.value is not None:
            value = str(row.value)
            check_node_value(row.name, value)
            # Source of the flags: glideinWMS 3.10 creation/lib/cgWParamDict.py, add_attr_unparsed_real.
            found.append(Attr(row.name, value, row.type, True, True, row.publish, False, False))
    return tuple(sorted(found, key=lambda attr: attr.name))


def _rows(runtime: Runtime) -> Iterator[_Row]:
    cvmfs, container, credentials = runtime.cvmfs, runtime.container, runtime.credentials
    if cvmfs is not None:
        yield _Row("GWMS_BOSCO_CVMFS_RUNGS", ",".join(runtime.rungs()))
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
