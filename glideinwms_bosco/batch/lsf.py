# SPDX-License-Identifier: Apache-2.0
"""LSF. Source: HTCondor 23.9 libexec/blahp/lsf_submit.sh."""

from __future__ import annotations

from typing import ClassVar

from glideinwms_bosco.batch.model import SHORT_OPTION, BatchSystem


class Lsf(BatchSystem):
    """`-n NodeNumber -R span[ptile=SMPGranularity]`; whole nodes take HostSMPSize and `-x`."""

    name: ClassVar[str] = "lsf"
    remote_commands: ClassVar[tuple[str, ...]] = ("bsub", "bjobs", "bkill", "lsid")
    extra_arg: ClassVar[str] = SHORT_OPTION
    extra_arg_example: ClassVar[str] = "-G groupname"
