# SPDX-License-Identifier: Apache-2.0
"""Pilot scripts, a cvmfsexec distribution and a CA folder, each as small as it can be, for tests of packing."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Union

SCRIPTS = (
    *("proxy_setup", "cvmfs_setup", "cvmfs_check", "siteconf_setup", "credentials_setup", "container_setup"),
    *("payload_setup", "payload_wrapper.sh", "proxy_check"),
    *("egress_setup", "egress_check", "egress_wrapper.sh", "job_wrapper"),
)
LIBRARY = "lib/config.sh"

ALL = """\
runtime:
  cvmfs:
    repositories: [cms.cern.ch, grid.cern.ch]
    required: false
    cache: local:/scratch/cvmfs
    quota_mb: 10000
    proxy: http://squid.example.org:3128|http://squid2.example.org:3128;DIRECT
    cvmfsexec: {path: DIST}
    parrot: /opt/cctools/bin/parrot_run
  payload: {cvmfs: on-request}
  container:
    mode: payload
    image: /project/images/cmssw.sif
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    nested: false
  credentials: {ca: [cvmfs, shipped], ca_dir: CA, x509_required: true}
"""
"""A runtime block with every field; DIST and CA stand for folders."""


def make_scripts(folder: Path) -> Path:
    """Pilot scripts, each of which names one library."""
    (folder / "lib").mkdir(parents=True)
    (folder / LIBRARY).write_text("gwms_bosco_config() { :; }\n", encoding="utf-8")
    for name in SCRIPTS:
        (folder / name).write_text(f"# gwms-bosco-include: {LIBRARY}\n# {name}\n", encoding="utf-8")
    return folder


def make_distribution(folder: Path) -> Path:
    """What makedist leaves, and what running it there and git leave beside that."""
    texts = {
        "cvmfsexec": "#!/bin/bash\n",
        "mountrepo": "#!/bin/bash\n",
        "README.md": "not shipped\n",
        ".git/config": "not shipped\n",
        "mnt/left": "not shipped\n",
        "dist/.cvmfsexecdist": "disttype: standard\n",
        "dist/usr/bin/cvmfs2": "\x7fELF\n",
        "dist/var/lib/cvmfs/shared/cache": "not shipped\n",
        "dist/var/run/cvmfs/socket": "not shipped\n",
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in ("cvmfsexec", "mountrepo", "dist/usr/bin/cvmfs2"):
        (folder / name).chmod(0o755)
    (folder / "dist" / "usr" / "lib64").mkdir()
    (folder / "dist" / "usr" / "lib64" / "libcvmfs.so").symlink_to("libcvmfs.so.2.12")
    (folder / "dist" / "cvmfs").mkdir()
    (folder / "dist" / "cvmfs" / "cms.cern.ch").mkdir()
    return folder


def make_ca(folder: Path) -> Path:
    """A CA directory: a certificate, its hash as a link, a revocation list."""
    folder.mkdir()
    (folder / "test-ca.pem").write_text("-----BEGIN CERTIFICATE-----\n", encoding="utf-8")
    (folder / "1d879c6c.0").symlink_to("test-ca.pem")
    (folder / "1d879c6c.r0").write_text("-----BEGIN X509 CRL-----\n", encoding="utf-8")
    return folder


def members(stream: bytes) -> dict[str, tarfile.TarInfo]:
    """Name -> header of each member of a tar file."""
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        return {info.name: info for info in tar}


def tar_of(files: Mapping[str, Union[bytes, tarfile.TarInfo]], mode: str = "w:gz", file_mode: int = 0o755) -> bytes:
    """A tar file of contents, and of headers of other kinds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, given in files.items():
            info = given if isinstance(given, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(given, bytes):
                info.size, info.mode = len(given), file_mode
            tar.addfile(info, io.BytesIO(given) if isinstance(given, bytes) else None)
    return buffer.getvalue()


def special(name: str, kind: bytes, target: Optional[str] = None) -> tarfile.TarInfo:
    """The header of a link or a device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target or ""
    return info
