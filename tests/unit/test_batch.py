# SPDX-License-Identifier: Apache-2.0
"""Batch adapters: a request becomes submit attributes that blahp reads, or is refused with the reason.

What blahp makes of these attributes is shown by tests/lab/test_batch_attrs.py on real Slurm, Grid Engine and HTCondor.
"""

from __future__ import annotations

from typing import Optional

import pytest

from glideinwms_bosco.batch import BATCH_SYSTEMS, ResourceRequest, batch_system
from glideinwms_bosco.errors import BatchError

FULL = ResourceRequest(
    cpus=8, memory_mb=16000, walltime_s=172800, nodes=2, gpus=1, queue="normal", project="m1", extra_args=("--qos=low",)
)

# system -> attributes of a request for 8 CPUs, 2 GB, 2 h in queue `q`
PLAIN = {
    "slurm": {"+NodeNumber": "8", "+SMPGranularity": "8", "request_memory": "2000", "batch_runtime": "7200"},
    "pbs": {"+NodeNumber": "8", "+SMPGranularity": "8", "request_memory": "2000", "batch_runtime": "7200"},
    "lsf": {"+NodeNumber": "8", "+SMPGranularity": "8", "batch_runtime": "7200"},
    "sge": {"+NodeNumber": "8", "batch_runtime": "7200"},
    "condor": {"+NodeNumber": "8", "request_memory": "2000", "batch_runtime": "7200"},
}


def attrs(system: str, request: ResourceRequest) -> dict[str, str]:
    return {attr.name: attr.value for attr in batch_system(system).submit_attrs(request)}


@pytest.mark.parametrize("system", PLAIN)
def test_maps_a_plain_request(system: str) -> None:
    request = ResourceRequest(cpus=8, memory_mb=2000, walltime_s=7200, queue="q")
    assert attrs(system, request) == {**PLAIN[system], "batch_queue": "q"}


@pytest.mark.parametrize("system", BATCH_SYSTEMS)
def test_never_relies_on_request_cpus(system: str) -> None:
    """`request_cpus` has no effect on any system blahp submits to."""
    assert "request_cpus" not in {name.lower() for name in attrs(system, ResourceRequest(cpus=8))}


def test_slurm_maps_everything_in_a_fixed_order() -> None:
    assert list(attrs("slurm", FULL).items()) == [
        ("+NodeNumber", "16"),
        ("+SMPGranularity", "8"),
        ("request_memory", "16000"),
        ("request_gpus", "1"),
        ("batch_runtime", "172800"),
        ("batch_queue", "normal"),
        ("batch_project", "m1"),
        ("batch_extra_submit_args", "--qos=low"),
    ]


@pytest.mark.parametrize(
    ("system", "args"),
    [
        ("slurm", "--constraint=haswell --reservation=r1 --qos=low --nice=5"),
        ("lsf", None),
        ("sge", None),
        ("pbs", None),
        ("condor", None),
    ],
)
def test_named_choices_become_options_or_are_refused(system: str, args: Optional[str]) -> None:
    request = ResourceRequest(constraint="haswell", reservation="r1", qos="low", extra_args=("--nice=5",))
    if args is not None:
        assert attrs(system, request) == {"batch_extra_submit_args": args}
        return
    refused = {finding.field for finding in batch_system(system).findings(request)} - {"extra_args"}
    assert refused == {"constraint", "reservation", "qos"} - set(batch_system(system).options)
    assert refused


def test_reservation_of_grid_engine_is_a_directive() -> None:
    assert attrs("sge", ResourceRequest(reservation="7")) == {"batch_extra_submit_args": "#$ -ar 7"}


def test_whole_nodes_name_hosts_and_their_size() -> None:
    request = ResourceRequest(cpus=16, nodes=2, whole_node=True)
    assert attrs("slurm", request) == {
        "+WholeNodes": "True",
        "+HostNumber": "2",
        "+HostSMPSize": "16",
        "+SMPGranularity": "16",
    }


@pytest.mark.parametrize(("walltime_s", "runtime"), [(1, "60"), (60, "60"), (61, "120"), (7200, "7200")])
@pytest.mark.parametrize("system", ["slurm", "lsf"])
def test_wall_time_is_rounded_up_to_minutes(system: str, walltime_s: int, runtime: str) -> None:
    """blahp would cut 59 s to 0 minutes, which Slurm takes as no limit."""
    assert attrs(system, ResourceRequest(walltime_s=walltime_s))["batch_runtime"] == runtime


REFUSED = [
    ("slurm", ResourceRequest(extra_args=("-p normal",)), "extra_args", "--constraint=haswell"),
    ("slurm", ResourceRequest(extra_args=("--x=$(id)",)), "extra_args", "--constraint=haswell"),
    ("slurm", ResourceRequest(extra_args=("--x=a b",)), "extra_args", "--constraint=haswell"),
    ("slurm", ResourceRequest(nodes=2), "nodes", "set cpus"),
    ("slurm", ResourceRequest(whole_node=True), "whole_node", "set cpus"),
    ("sge", ResourceRequest(cpus=8, nodes=2), "nodes", "sge_pe_policy"),
    ("sge", ResourceRequest(extra_args=("-l x=*",)), "extra_args", "-l mem_free=4G"),
    ("condor", ResourceRequest(cpus=8, nodes=2), "nodes", "cpus alone"),
    ("condor", ResourceRequest(cpus=8, whole_node=True), "nodes", "cpus alone"),
    ("condor", ResourceRequest(project="m1"), "project", "ProjectName"),
    ("condor", ResourceRequest(extra_args=("+A=1", "+B=2")), "extra_args", "keep one"),
    ("pbs", ResourceRequest(extra_args=("--long",)), "extra_args", "-l feature=ib"),
]


@pytest.mark.parametrize(("system", "request_", "field", "remedy"), REFUSED)
def test_refuses_what_it_cannot_express(system: str, request_: ResourceRequest, field: str, remedy: str) -> None:
    with pytest.raises(BatchError) as caught:
        batch_system(system).submit_attrs(request_)
    assert caught.value.message.startswith(f"{field}: ")
    assert remedy in caught.value.hint


WARNED = [
    ("sge", ResourceRequest(memory_mb=2000), "memory_mb"),
    ("sge", ResourceRequest(project="m1"), "project"),
    ("lsf", ResourceRequest(memory_mb=2000), "memory_mb"),
    ("pbs", ResourceRequest(gpus=1), "gpus"),
]


@pytest.mark.parametrize(("system", "request_", "field"), WARNED)
def test_warns_where_only_a_part_has_effect(system: str, request_: ResourceRequest, field: str) -> None:
    (finding,) = batch_system(system).findings(request_)
    assert (finding.field, finding.severity) == (field, "warning")
    batch_system(system).submit_attrs(request_)


def test_unknown_system_names_the_known_ones() -> None:
    with pytest.raises(BatchError, match="one of: slurm, pbs, lsf, sge, condor"):
        batch_system("cobalt")
