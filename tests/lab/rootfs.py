# SPDX-License-Identifier: Apache-2.0
"""Root file systems are built once, under a name that is a digest of how they are made."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.lab import state
from tests.lab.process import checked, communicate, machine_env, tail
from tests.lab.settings import LabError, Recipe, Settings

HOOK = Path(__file__).with_name("rootfs_hook.sh")
PURGE = Path(__file__).with_name("purge_layer.sh")
UNSTABLE = Path(__file__).with_name("unstable_hook.sh")
BUILD_DEADLINE_S = 900.0
APT_DEADLINE_S = 300.0
BUILD_PREFIX = ".build-"
DIGEST_LENGTH = 12

# program -> Debian package, for what the machine itself must have
HOST_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
}


def missing_tools() -> list[str]:
    """Return the packages that must be installed on this machine first."""
    path = machine_env()["PATH"]
    return sorted({package for tool, package in HOST_TOOLS.items() if not shutil.which(tool, path=path)})


def install_tools(packages: list[str]) -> None:
    """Install packages on this machine.

    Raises:
        LabError: apt-get failed; with the end of its output.
    """
    env = {**machine_env(), "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "-q", "update"], ["apt-get", "-q", "-y", "--no-install-recommends", "install", *packages]):
        done = communicate(argv, timeout=APT_DEADLINE_S, env=env)
        if done.returncode:
            raise LabError(f"{' '.join(argv)}: exit status {done.returncode}\n{tail(done.stdout + done.stderr)}")


def rootfs_path(settings: Settings, recipe: Recipe) -> Path:
    """Return where a recipe's result lies; it holds `root` and, if something is purged, `purged`."""
    fields = dataclasses.asdict(recipe)
    parts = [HOOK.read_text(), PURGE.read_text()]
    # What a recipe does not use must not change its digest: every root file system would be built again.
    if fields.pop("unstable"):
        parts.append(UNSTABLE.read_text() + " ".join(recipe.unstable))
    parts.insert(0, json.dumps(fields, sort_keys=True))
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:DIGEST_LENGTH]
    return settings.rootfs_dir / f"{recipe.kind}-{digest}"


def lower_layers(settings: Settings, host_recipe: Recipe, full: bool) -> str:
    """Return the overlay's `lowerdir` value: the root file system, with the purge layer above it unless `full`."""
    path = rootfs_path(settings, host_recipe)
    layers = [path / "root"] if full or not host_recipe.without else [path / "purged", path / "root"]
    return ":".join(map(str, layers))


@contextlib.contextmanager
def _build_lock(settings: Settings) -> Iterator[None]:
    """Hold the cache's build lock; a killed holder frees it."""
    settings.rootfs_dir.mkdir(parents=True, exist_ok=True)
    with (settings.rootfs_dir / ".lock").open("w") as handle:
        state.take_flock(handle.fileno(), handle.name)
        yield


def build(settings: Settings, recipe: Recipe) -> bool:
    """Build a root file system unless the cache has it; two callers at once build it once.

    Returns:
        True when it was built now.

    Raises:
        LabError: mmdebstrap failed; with the end of its log.
    """
    target = rootfs_path(settings, recipe)
    if target.exists():
        return False
    with _build_lock(settings):
        if target.exists():
            return False
        _remove_stale_builds(settings)
        work = Path(tempfile.mkdtemp(prefix=BUILD_PREFIX, dir=settings.rootfs_dir))
        work.chmod(0o755)  # apt's own account must be able to enter
        try:
            (work / "tmp").mkdir()
            (work / "tmp").chmod(0o1777)
            done = work / "done"
            done.mkdir()
            _mmdebstrap(recipe, done / "root", work / "tmp")
            if recipe.without:
                _isolated(["sh", str(PURGE), str(done / "root"), str(done / "purged"), *recipe.without])
            _remove_older(settings, recipe)
            done.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return True


def _mmdebstrap(recipe: Recipe, root: Path, scratch: Path) -> None:
    """Run mmdebstrap with its own choice of mirror."""
    options = ("path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*")
    argv = ["env", f"TMPDIR={scratch}", "mmdebstrap", "--mode=root", "--variant=minbase"]
    argv += [f"--include={','.join(recipe.packages)}"]
    argv += [f"--dpkgopt={option}" for option in options]
    argv += [f"--aptopt={option}" for option in ('APT::Install-Recommends "false"', *recipe.apt_options)]
    if recipe.build_hostname:
        name = recipe.build_hostname
        argv = ["sh", "-c", 'hostname "$1"; shift; exec "$@"', "sh", name, *argv]
        argv += [f'--essential-hook=echo 127.0.0.1 localhost {name} >"$1/etc/hosts"']
    if recipe.unstable:
        argv += [f'--customize-hook=sh {shlex.quote(str(UNSTABLE))} "$1" {shlex.join(recipe.unstable)}']
    argv += [f'--customize-hook=sh {shlex.quote(str(HOOK))} "$1"', recipe.suite, str(root)]
    _isolated(argv)


def _isolated(argv: list[str]) -> None:
    """Run a build step in its own mount, pid and uts name spaces; it dies with us, also by SIGKILL."""
    wrapper = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
    checked([*wrapper, "--mount-proc", *argv], timeout=BUILD_DEADLINE_S)


def _remove_older(settings: Settings, recipe: Recipe) -> None:
    """Remove results of older recipes of this kind that no lab stands on."""
    labs = (state.read(path) for path in settings.labs_dir.glob("*"))
    used = {name for lab in labs if lab is not None for name in lab.rootfs}
    for old in settings.rootfs_dir.glob(f"{recipe.kind}-*"):
        if old.name not in used:
            shutil.rmtree(old)


def _remove_stale_builds(settings: Settings) -> None:
    for stale in settings.rootfs_dir.glob(f"{BUILD_PREFIX}*"):
        shutil.rmtree(stale)


def clean_stale_builds(settings: Settings) -> None:
    """Remove what a killed build left, unless a build is under way."""
    if not any(settings.rootfs_dir.glob(f"{BUILD_PREFIX}*")):
        return
    with (settings.rootfs_dir / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _remove_stale_builds(settings)
