# SPDX-License-Identifier: Apache-2.0
"""A second HTCondor version as a bundle source on the factory: that of the other profile's distribution.

Its programs ask for nothing newer than glibc 2.38, so they run on the login host of both profiles: a real upgrade and a
real way back between 23.9 and 25.14.
"""

from __future__ import annotations

import subprocess

from tests.lab.lab import Lab
from tests.lab.settings import LabError

OTHER_ROOT = "/opt/other-htcondor"
_OTHER = {"trixie": "next", "next": "trixie"}
_PLACES = (
    "usr/bin/blahpd",
    "usr/sbin/condor_ft-gahp",
    "usr/lib/libcondor_utils*",
    "usr/lib/libclassad.so*",
    "etc/blah.config",
    "etc/blahp",
    "usr/libexec/blahp",
)


def bring_other_htcondor(lab: Lab) -> None:
    """Put the files of the other HTCondor that a bundle is made of on the factory; nothing to do when they are there.

    Raises:
        LabError: they cannot be copied.
    """
    if lab.run("factory", ["test", "-d", OTHER_ROOT], check=False).returncode == 0:
        return
    root = Lab(lab.name, _OTHER[lab.profile]).provide_rootfs("factory")
    names = [str(path.relative_to(root)) for place in _PLACES for path in root.glob(place)]
    packed = subprocess.run(["tar", "-C", str(root), "-cf", "-", *names], stdout=subprocess.PIPE, check=True).stdout
    lab.run("factory", ["mkdir", "-p", OTHER_ROOT])
    argv = lab.host("factory").entry_argv(["tar", "-C", OTHER_ROOT, "-xf", "-"])
    if subprocess.run(argv, input=packed, check=False).returncode:
        raise LabError("the other HTCondor cannot be copied to the factory")
