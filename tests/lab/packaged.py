# SPDX-License-Identifier: Apache-2.0
"""Hosts as they are before an administrator begins, and our packages on them by rpm, with nothing of the checkout.

rpm is that of this machine, brought into the host with its libraries. From outside it must not be used: the way to a
host's root is a link of /proc, SQLite resolves it, and the database would be this machine's.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.pilots import bring_tree
from tests.lab.settings import CHECKOUT_IN_HOST
from tests.packages import GLIDEINWMS_FOLDERS, libraries, query

DEBIAN_PTH = "/usr/lib/python3/dist-packages/el-site-packages.pth"
_RPM, _LOADER = "/run/rpm", "ld-linux-x86-64.so.2"
# What other tests have put there from the checkout, and what packages and administrators leave.
_OURS = (
    *("/usr/local/bin/gwms-bosco", "/usr/bin/gwms-bosco", "/usr/libexec/gwms-bosco", "/usr/share/gwms-bosco"),
    *("/usr/bin/gwms-ssh-relay", "/usr/bin/gwms-ssh-tap", "/usr/bin/gwms-ssh-broker"),
    *("/etc/gwms-bosco", "/etc/gwms-ssh-relay", "/etc/gwms-ssh-broker", "/etc/gwms-factory", "/etc/gwms-frontend"),
    *("/var/lib/gwms-bosco", "/var/lib/gwms-factory", "/var/lib/gwms-ssh-broker", "/var/log/gwms-ssh-broker"),
    *("/run/gwms-ssh-relay", "/run/gwms-ssh-broker", "/run/credentials", "/var/lib/rpm", DEBIAN_PTH),
    *("/etc/systemd/system/gwms-ssh-broker.service.d", "/home/factory/.ssh/config", "/usr/bin/systemctl"),
    _RPM,
)
_SYSTEMCTL = Path(__file__).with_name("systemctl_standin.sh")
_FIND = """
for name in gwms-bosco gwms-ssh-relay gwms-ssh-tap gwms-ssh-broker; do command -v "$name" || :; done
python3 -c 'import importlib.util as u; print(getattr(u.find_spec("glideinwms_bosco"), "origin", ""))'
ls "$1"
"""
_PUT_ASIDE = 'for path; do [ ! -e "$path" ] || mv "$path" "$path.aside"; done'
_BRING_BACK = 'for path; do rm -rf "$path"; [ ! -e "$path.aside" ] || mv "$path.aside" "$path"; done'


@contextmanager
def bare(lab: Lab, *hosts: str) -> Iterator[None]:
    """Take everything of ours, and the checkout, out of the hosts' sight; in the end it is all as before."""
    for host in hosts:
        lab.host(host).sh(_PUT_ASIDE, *_OURS)
        lab.run(host, ["mount", "-t", "tmpfs", "-o", "ro", "nothing", CHECKOUT_IN_HOST])
        lab.write_file(host, "/usr/bin/systemctl", _SYSTEMCTL.read_text(encoding="utf-8"), mode=0o755)
        _bring_rpm(lab, host)
    try:
        yield
    finally:
        for host in hosts:
            _erase(lab, host)
            lab.run(host, ["umount", CHECKOUT_IN_HOST])
            lab.host(host).sh(_BRING_BACK, *_OURS)


def add_glideinwms(lab: Lab, host: str, owner: str) -> None:
    """Make the folders that glideinWMS's package for this host makes; the account is there."""
    for path, account in GLIDEINWMS_FOLDERS.items():
        if account == owner:
            lab.host(host).make_dirs(path, owner=owner)


def _bring_rpm(lab: Lab, host: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file in ("/usr/bin/rpm", *libraries("/usr/bin/rpm")):
            shutil.copy(file, folder)
        shutil.copytree("/usr/lib/rpm", f"{folder}/config")
        bring_tree(lab, folder, (host, _RPM))
    lab.run(host, ["mkdir", "-p", "/var/lib/rpm"])


def rpm(lab: Lab, host: str, *words: str) -> str:
    """Run rpm on a host; its standard output."""
    argv = [f"{_RPM}/{_LOADER}", "--library-path", _RPM, f"{_RPM}/rpm", "--dbpath", "/var/lib/rpm", "--nosignature"]
    return lab.run(host, [*argv, *words], env={"RPM_CONFIGDIR": f"{_RPM}/config"}).stdout


def install(lab: Lab, host: str, packages: Sequence[Path]) -> None:
    """Install packages, and do what is EL's: Debian's Python finds EL's folder, tmpfiles.d is read.

    Source: packaging/README.md, "Debian in place of EL".
    """
    bring_tree(lab, str(packages[0].parent), (host, _RPM), [path.name for path in packages])
    rpm(lab, host, "-U", "--nodeps", *(f"{_RPM}/{path.name}" for path in packages))
    files = [name for path in packages for name in query(path, "--list")]
    lab.write_file(host, DEBIAN_PTH, f"{_module(files).rpartition('/')[0]}\n")
    configured = [Path(name).name for name in files if name.startswith("/usr/lib/tmpfiles.d/")]
    lab.run(host, ["systemd-tmpfiles", "--create", *configured])


def installed(lab: Lab, host: str) -> list[str]:
    """Names of the packages on a host."""
    return rpm(lab, host, "-qa", "--queryformat", "%{NAME}\n").split()


def verify(lab: Lab, host: str) -> None:
    """Have rpm compare what it has installed with what is there, configuration aside.

    Raises:
        CommandError: a file is another one, or has another owner or mode.
    """
    rpm(lab, host, "--verify", "--nodeps", "--noconfig", *installed(lab, host))


def found(lab: Lab, host: str) -> list[str]:
    """Paths of our programs and of our Python package, as they are found there; and what it sees of the checkout."""
    return lab.host(host).sh(_FIND, CHECKOUT_IN_HOST).split()


def module_path(lab: Lab, host: str) -> str:
    """Where the host's Python has our package from."""
    (path,) = (path for path in found(lab, host) if path.endswith("/glideinwms_bosco/__init__.py"))
    return path


def _module(files: Sequence[str]) -> str:
    (folder,) = (name for name in files if name.endswith("/site-packages/glideinwms_bosco"))
    return folder


def _erase(lab: Lab, host: str) -> None:
    """Remove the packages, by which their daemons end, and what Debian's Python has compiled of them."""
    names = installed(lab, host)
    if names:
        module = _module(rpm(lab, host, "-ql", *names).splitlines())
        rpm(lab, host, "-e", "--nodeps", *names)
        lab.run(host, ["rm", "-rf", module])
