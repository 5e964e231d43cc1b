# SPDX-License-Identifier: Apache-2.0
"""What blahp makes of our submit attributes, and jobs through batch systems other than Slurm.

blah.config's `blah_debug_save_submit_info` keeps every script that blahp hands to the batch system.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.lab.sites import LabSite

GRID_ENGINE = {"sge_rootpath": "/var/lib/gridengine", "sge_cellname": "default", "sge_pe_policy": "smp"}


def saved_script(lab: Lab, site: LabSite) -> str:
    """Deploy, run a job that ends with 3, and return the script blahp made for it."""
    folder = f"scripts-{site.name}"
    home = lab.run(site.host, ["sh", "-c", "echo $HOME"], user="pilot").stdout.strip()
    lab.run(site.host, ["mkdir", "-p", folder], user="pilot")
    settings = {**site.batch.get("settings", {}), "blah_debug_save_submit_info": f"{home}/{folder}"}
    site.batch["settings"] = settings
    site.add(lab)
    site.deploy(lab)
    result = site.test(lab, "--exit-code", "3")
    assert result["passed"], result
    text: str = lab.run(site.host, ["sh", "-c", f"cat {folder}/*/submit.script"], user="pilot").stdout
    return text


def directives(script: str, mark: str) -> set[str]:
    """The lines of a batch script that speak to the batch system."""
    return {line[len(mark) :].strip() for line in script.splitlines() if line.startswith(mark)}


SLURM_CASES: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "one-node": (
        {"queue": "batch", "project": "acct-1", "extra_args": ["--comment=hello", "--nice=5"]},
        {"cpus": 4, "memory_mb": 1000},
        {"-n 4", "--ntasks-per-node 4", "--mem=1000", "-t 10", "-p batch", "-A acct-1", "--comment=hello --nice=5"},
    ),
    "two-nodes": ({}, {"cpus": 2, "nodes": 2}, {"-n 4", "--ntasks-per-node 2", "-t 10"}),
    "whole-nodes": ({}, {"cpus": 64, "nodes": 2, "whole_node": True}, {"-N 2", "--ntasks-per-node 64", "--exclusive"}),
}


@pytest.mark.parametrize("case", SLURM_CASES)
def test_slurm_gets_what_the_entry_asks_for(lab: Lab, case: str) -> None:
    batch, entry, expected = SLURM_CASES[case]
    script = saved_script(lab, LabSite(case, batch=dict(batch), entry=entry))
    assert expected <= directives(script, "#SBATCH")


def test_slurm_gives_all_cpus_of_a_pilot_on_one_node(lab: Lab) -> None:
    """The meaning of cpus: not so many tasks somewhere, but CPUs of one node."""
    site = LabSite("cpus", entry={"cpus": 40})
    site.add(lab)
    site.deploy(lab)
    assert site.test(lab)["passed"]
    # Slurm forgets a job a minute after its end.
    jobs = lab.run("login", ["scontrol", "-o", "show", "job"]).stdout.splitlines()
    allocated = [re.search(r"NumNodes=(\S+) NumCPUs=(\S+)", job) for job in jobs]
    assert ("1", "40") in {found.groups() for found in allocated if found}


def test_grid_engine_runs_a_job_and_gives_its_exit_code_back(lab: Lab) -> None:
    lab.ensure("login-sge")
    site = LabSite(
        "sge",
        "login-sge",
        "sge",
        batch={"queue": "batch", "project": "acct1", "settings": GRID_ENGINE, "extra_args": ["-l h_vmem=4G", "-p -5"]},
        entry={"cpus": 2},
    )
    script = saved_script(lab, site)
    assert {"-A acct1", "-l h_rt=600", "-l h_vmem=4G -p -5", "-q batch", "-pe smp 2"} <= directives(script, "#$")


def test_htcondor_as_remote_system_runs_a_job_and_gives_its_exit_code_back(lab: Lab) -> None:
    lab.ensure("login-condor")
    site = LabSite(
        "condor",
        "login-condor",
        "condor",
        batch={"extra_args": ["+WantTest=True"]},
        entry={"cpus": 2, "memory_mb": 500},
    )
    lines = saved_script(lab, site).splitlines()
    assert {"request_cpus = 2", "request_memory = 500", "+WantTest=True"} <= set(lines)
