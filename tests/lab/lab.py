# SPDX-License-Identifier: Apache-2.0
"""The lab: brought up as a whole, asked by host name, taken down without a trace."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Optional

from tests.lab import checkout, net, rootfs, services, state
from tests.lab.host import Host
from tests.lab.process import POLL_S
from tests.lab.settings import BASE_HOSTS, EXTRA_HOSTS, HOSTS, PROFILE_HOSTS, LabError, Settings
from tests.lab.steps import Say, Steps, silent, together

CLEAN_DEADLINE_S = 20.0


class Lab:
    """One lab, running or not.

    Args:
        name: the lab's name; default from the environment, see settings.
        profile: what its root file systems are made of; default from the environment, see settings.
        say: gets one line per step.
    """

    def __init__(self, name: Optional[str] = None, profile: Optional[str] = None, say: Say = silent) -> None:
        self.settings = Settings.resolve(name, profile)
        self._hosts = {host: Host(self.settings, host) for host in HOSTS}
        self._say = say

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def profile(self) -> str:
        return self.settings.profile

    def up(self) -> None:
        """Bring the base hosts up; nothing to do when they are, from the start when they are half up.

        Raises:
            LabError: a step failed (the lab is taken down again), or it is up with another profile.
        """
        _require_root()
        steps = Steps(self._say)
        self._provide_tools(steps)
        with state.locked(self.settings.state_dir, create=True):
            found = state.read(self.settings.state_dir)
            if self.is_up():
                if found is not None and found.profile != self.profile:
                    raise LabError(f"lab {self.name} is up with profile {found.profile}; take it down first")
                checkout.provide(self.settings)
                self._say(f"lab {self.name} is already up")
                return
            if self._traces():
                with steps.step("clean up what an earlier run left"):
                    self._clean()
            try:
                self._up(steps)
            except BaseException:
                self._clean()
                self._forget()
                raise
            steps.total(f"lab {self.name} is up, profile {self.profile}")

    def _provide_tools(self, steps: Steps) -> None:
        """Install what the machine itself lacks for a lab."""
        packages = rootfs.missing_tools()
        if packages:
            with steps.step(f"install on this machine: {' '.join(packages)}"):
                rootfs.install_tools(packages)

    def _up(self, steps: Steps) -> None:
        began = state.LabState(self.profile, ())
        with steps.step("root file system"):
            began = self._provide_rootfs(began, BASE_HOSTS)
        with steps.step("networks"):
            net.create_switch(self.settings)
            net.attach(self.settings, BASE_HOSTS)
        with steps.step("hosts"):
            self._start_hosts(BASE_HOSTS)
        services.start_base(self._hosts, steps)
        for extra in PROFILE_HOSTS.get(self.profile, ()):
            began = self._ensure(steps, began, extra)
        services.start_profile(self._hosts, self.profile, steps)
        state.write(self.settings.state_dir, dataclasses.replace(began, ready=True))

    def _provide_rootfs(self, before: state.LabState, names: Iterable[str]) -> state.LabState:
        """Build what the hosts stand on, and write down beforehand that this lab stands on it."""
        recipes = {self.settings.recipe(name) for name in names}
        paths = {rootfs.rootfs_path(self.settings, recipe).name for recipe in recipes}
        after = dataclasses.replace(before, rootfs=tuple(sorted(paths.union(before.rootfs))))
        state.write(self.settings.state_dir, after)
        for recipe in recipes:
            rootfs.build(self.settings, recipe)
        return after

    def provide_rootfs(self, host: str) -> Path:
        """Build what a host stands on unless the cache has it, and return its root directory."""
        _require_root()
        self._provide_tools(Steps(self._say))
        recipe = self.settings.recipe(host)
        rootfs.build(self.settings, recipe)
        return rootfs.rootfs_path(self.settings, recipe) / "root"

    def _start_hosts(self, names: Iterable[str]) -> None:
        """Start hosts side by side; their network name spaces exist."""
        self.settings.shared_dir.mkdir(exist_ok=True)
        source = checkout.provide(self.settings)
        together(partial(self._hosts[name].start, self._lower(name), source) for name in names)

    def _lower(self, name: str) -> str:
        return rootfs.lower_layers(self.settings, self.settings.recipe(name), HOSTS[name].has_htcondor)

    def ensure(self, extra: str) -> None:
        """Start an extra host unless it runs.

        Raises:
            LabError: there is no such host, the lab is not up, or a step failed (the host is removed again).
        """
        _require_root()
        if extra not in EXTRA_HOSTS:
            raise LabError(f"no extra host {extra!r}; there is: {', '.join(EXTRA_HOSTS)}")
        steps = Steps(self._say)
        with state.locked(self.settings.state_dir, create=False):
            found = state.read(self.settings.state_dir)
            if found is None or not self.is_up():
                raise LabError(f"lab {self.name} is not up")
            if extra in found.extras and self._serves(extra):
                self._say(f"host {extra} is already up")
                return
            found = dataclasses.replace(found, extras=tuple(set(found.extras) - {extra}))
            self._remove_extra(extra)
            try:
                self._ensure(steps, found, extra)
            except BaseException:
                self._remove_extra(extra)
                raise
        steps.total(f"host {extra} is up")

    def _ensure(self, steps: Steps, found: state.LabState, extra: str) -> state.LabState:
        with steps.step("root file system"):
            found = self._provide_rootfs(found, [extra])
        with steps.step("host"):
            net.attach(self.settings, [extra])
            self._start_hosts([extra])
        services.start_extra(self._hosts[extra], self._hosts["factory"], steps)
        found = dataclasses.replace(found, extras=(*found.extras, extra))
        state.write(self.settings.state_dir, found)
        return found

    def _remove_extra(self, extra: str) -> None:
        self._hosts[extra].stop()
        net.remove({self.settings.netns(extra)}.intersection(net.existing(self.settings)))
        shutil.rmtree(self.settings.host_dir(extra), ignore_errors=True)

    def down(self) -> None:
        """Stop everything and remove every trace except the cached root file systems; nothing to do when not up.

        Raises:
            LabError: something cannot be removed, e.g. processes of others are in the lab's name spaces.
        """
        _require_root()
        steps = Steps(self._say)
        with state.locked(self.settings.state_dir, create=False):
            self._clean()
            self._forget()
        rootfs.clean_stale_builds(self.settings)
        steps.total(f"lab {self.name} is down")

    def _traces(self) -> bool:
        directory = self.settings.state_dir
        return bool(net.existing(self.settings)) or (directory.exists() and any(directory.iterdir()))

    def _clean(self) -> None:
        """Stop and remove what was made under this name; the state directory stays, empty: it is the lock."""
        end = time.monotonic() + CLEAN_DEADLINE_S
        while True:
            together(host.stop for host in self._hosts.values())
            # What a killed `up` had just set off may come up only now: look again until nothing is left.
            spaces = net.existing(self.settings)
            others = {space: found for space in spaces if (found := net.pids(space))}
            if not others:
                break
            if time.monotonic() > end:
                raise LabError(f"processes that lab {self.name} did not start are in its network name spaces: {others}")
            time.sleep(POLL_S)
        net.remove(spaces)
        if self.settings.state_dir.exists():
            for entry in self.settings.state_dir.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _forget(self) -> None:
        if self.settings.state_dir.exists():
            self.settings.state_dir.rmdir()

    def is_up(self) -> bool:
        """Tell whether all base hosts run with all their daemons."""
        found = state.read(self.settings.state_dir)
        return found is not None and found.ready and all(self._serves(name) for name in BASE_HOSTS)

    def _serves(self, name: str) -> bool:
        host = self._hosts[name]
        return host.alive() and not services.dead_daemons(host)

    def status(self) -> dict[str, str]:
        """Return dict host -> "up", "broken: <daemon pid files>" or "down"."""
        result = {}
        for name, host in self._hosts.items():
            dead = services.dead_daemons(host)
            result[name] = "down" if not host.alive() else f"broken: {' '.join(dead)}" if dead else "up"
        return result

    def host(self, name: str) -> Host:
        """Return a host by name.

        Raises:
            LabError: there is no such host.
        """
        if name not in self._hosts:
            raise LabError(f"no host {name!r}; there is: {', '.join(self._hosts)}")
        return self._hosts[name]

    def run(
        self,
        host: str,
        argv: Sequence[str],
        *,
        user: str = "root",
        input: Optional[str] = None,
        timeout: float = 180.0,
        check: bool = True,
        env: Optional[Mapping[str, str]] = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a host as `user`, in its home, with a clean environment and `env` added.

        Raises:
            host.CommandError: `check` is set and the exit status is not 0.
            LabError: the host is not running, or the command is not done within `timeout` seconds (it is killed).
        """
        return self.host(host).run(argv, user=user, text_in=input, timeout=timeout, check=check, env=env)

    def popen(
        self,
        host: str,
        argv: Sequence[str],
        *,
        user: str = "root",
        env: Optional[Mapping[str, str]] = None,
        stdin: Optional[int] = subprocess.DEVNULL,
        stdout: Optional[int] = subprocess.PIPE,
        stderr: Optional[int] = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a command in a host; the caller waits for it.

        It leads its own process group: to end it, `os.killpg(process.pid, ...)`; killing only the process itself
        would kill `nsenter` and leave its child running.
        """
        return subprocess.Popen(
            self.host(host).entry_argv(argv, user, env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def read_file(self, host: str, path: str) -> str:
        """Return a text file of a host."""
        return self.host(host).read_file(path)

    def write_file(self, host: str, path: str, text: str, owner: str = "root:root", mode: int = 0o644) -> None:
        """Write a text file in a host by renaming; `owner` is `user:group`, the directory must exist."""
        self.host(host).write_file(path, text, owner, mode)

    def host_root(self, host: str) -> Path:
        """Return a host's root as the machine sees it; absolute links inside lead out of it."""
        return self.host(host).root()


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root: network name spaces, overlay mounts")
