# SPDX-License-Identifier: Apache-2.0
"""Site files by the number, shaped like those of real sites: defaults, a few fields and attributes per entry."""

from __future__ import annotations

from pathlib import Path

from tests.unit.site_text import HOST_KEY

_SITE = """\
site: T3_XX_Site{site}
cms_site: T3_XX_Site{site}
country: DE
supported_vos: [CMS]
trust_domain: bosco.bench
login:
  host: login{site}.example.org
  host_keys: [{key}]
accounts:
  - {{user: cmspilot, frontend: cms, credential: broker}}
batch: {{system: slurm, queue: regular}}
defaults:
  walltime: 48h
  limits:
    per_entry: {{glideins: 500, idle: 500, held: 20}}
    default_per_frontend: {{glideins: 500, idle: 500, held: 20}}
  submit: {{cluster_size: 10, max_per_cycle: 100, sleep_s: 0.2, slots_layout: partitionable}}
  attrs:
    USE_CCB: true
entries:
"""
_ENTRY = """\
  - name: CMSHTPC_T3_XX_Site{site}_{entry}
    cpus: 8
    memory_mb: 16000
    walltime: 47h
    work_dir: AUTO
    limits:
      per_entry: {{glideins: 100, idle: 50, held: 10}}
    attrs:
      GLIDEIN_Max_Walltime: 160000
      X509_CERT_DIR: /cvmfs/oasis.opensciencegrid.org/mis/certificates
"""


def write_site_files(folder: Path, sites: int, entries: int) -> list[Path]:
    """Write `sites` files of `entries` entries each into an existing folder; return their paths, sorted."""
    paths = []
    for site in range(sites):
        text = _SITE.format(site=site, key=HOST_KEY)
        text += "".join(_ENTRY.format(site=site, entry=entry) for entry in range(entries))
        path = folder / f"site{site:04d}.yaml"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
