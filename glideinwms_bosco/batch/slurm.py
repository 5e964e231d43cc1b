# SPDX-License-Identifier: Apache-2.0
"""Slurm. Source: HTCondor 23.9 libexec/blahp/slurm_submit.sh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from glideinwms_bosco.batch.model import LONG_OPTION, BatchSystem


class Slurm(BatchSystem):
    """`-n NodeNumber --ntasks-per-node SMPGranularity`; whole nodes add `-N HostNumber --exclusive`."""

    name: ClassVar[str] = "slurm"
    remote_commands: ClassVar[tuple[str, ...]] = ("sbatch", "squeue", "scancel", "scontrol")
    runtime_unit_s: ClassVar[int] = 60
    options: ClassVar[Mapping[str, str]] = {
        "constraint": "--constraint={}",
        "reservation": "--reservation={}",
        "qos": "--qos={}",
    }
    extra_arg: ClassVar[str] = LONG_OPTION
    extra_arg_example: ClassVar[str] = "--constraint=haswell"
