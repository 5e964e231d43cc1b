# SPDX-License-Identifier: Apache-2.0
"""Ways to a login node: through a jump host, with keys from an agent, on a terminal and without one."""

from __future__ import annotations

import re

from tests.lab.lab import Lab
from tests.lab.operator import USER, add_site, gwms_bosco, host_keys, key_of
from tests.lab.sites import LabSite

# The login host by its address: ssh keeps one way per host name, and other tests go to `login` directly.
LOGIN_ADDRESS = "10.77.0.20"


def jump_site(lab: Lab, name: str, jump_keys: list[str]) -> LabSite:
    jump = {"host": "outside", "user": "pilot", "host_keys": jump_keys}
    return LabSite(name, host=LOGIN_ADDRESS, host_keys=host_keys(lab, "login"), login={"jump_hosts": [jump]})


def accepted(lab: Lab, host: str) -> int:
    return lab.read_file(host, "/var/log/sshd.log").count("Accepted publickey for pilot")


def test_jump_host_carries_deploy_and_jobs(lab: Lab) -> None:
    site = jump_site(lab, "jump", host_keys(lab, "outside"))
    site.add(lab)
    try:
        before = accepted(lab, "outside")
        assert site.deploy(lab)["action"] == "installed"
        assert accepted(lab, "outside") == before + 1
        assert site.test(lab, "--exit-code", "3")["passed"]
        # The test's own look, and stock remote_gahp twice, by the ssh configuration we wrote for the schedd's user.
        assert accepted(lab, "outside") == before + 1 + 1 + 2
    finally:
        site.remove(lab)


def test_jump_host_with_another_key_is_refused(lab: Lab) -> None:
    site = jump_site(lab, "badjump", host_keys(lab, "login"))
    add_site(lab, site.name, site.text(lab))
    try:
        done = gwms_bosco(lab, "remote", "deploy", site.name, "--key", key_of("pilot"), check=False)
    finally:
        site.remove(lab)
    assert done.returncode == 3
    assert "outside" in done.stderr
    assert "host key" in done.stderr


def test_keys_of_the_caller_s_agent_serve(lab: Lab) -> None:
    site = LabSite("agent")
    site.add(lab)
    script = f"ssh-add -q {key_of('pilot')} && exec gwms-bosco remote deploy agent"
    done = lab.run("factory", ["ssh-agent", "sh", "-c", script], user=USER)
    assert done.stdout.startswith("installed: pilot@login:22 has bundle ")


def test_no_key_and_no_agent_is_refused_without_a_prompt(lab: Lab) -> None:
    site = LabSite("noagent")
    site.add(lab)
    done = gwms_bosco(lab, "remote", "deploy", "noagent", check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    site.remove(lab)


def test_progress_bar_is_for_terminals_only(lab: Lab) -> None:
    for name, on_terminal in (("plain", False), ("terminal", True)):
        site = LabSite(name)
        site.add(lab)
        command = f"gwms-bosco remote deploy {name} --key {key_of('pilot')}"
        argv = ["script", "-qefc", command, "/dev/null"] if on_terminal else ["sh", "-c", f"{command} 2>&1"]
        shown = lab.run("factory", argv, user=USER, env={"TERM": "xterm"}).stdout
        assert bool(re.search("\x1b\\[", shown)) == on_terminal
        assert ("sending" in shown) == on_terminal
        assert "installed: pilot@login:22" in shown
