# SPDX-License-Identifier: Apache-2.0
"""Run parts of a glideinWMS checkout on a factory in temporary folders; as a program: one such part.

Everything of glideinWMS runs in a process of its own, so that no module of it stays in the tests' process.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import logging
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Optional
from xml.etree import ElementTree

if TYPE_CHECKING:
    # Not where this runs as a program of glideinWMS's side.
    import pytest

DEADLINE_S = 60.0

MAIN_ENTRY = "In_Main_File"
"""The one entry of the factory's own glideinWMS.xml: nothing but defaults, and one element named x in each list."""

# The smallest that reconfig takes.
_MAIN_XML = """\
<glidein factory_name="Test" glidein_name="gfactory_instance" schedd_name="schedd@factory.example.org">
  <monitor base_dir="{home}/monitor" javascriptRRD_dir="{home}/javascriptrrd"/>
  <security>
    <frontends>
      <frontend name="cms" identity="cms@factory.example.org">
        <security_classes><security_class name="frontend" username="frontend"/></security_classes>
      </frontend>
    </frontends>
  </security>
  <stage base_dir="{home}/stage" web_base_url="http://factory.example.org/stage"/>
  <submit base_dir="{home}/work" base_log_dir="{home}/log" base_client_log_dir="{home}/client-log"
    base_client_proxies_dir="{home}/client-proxies"/>
  <attrs/>
  <files/>
  <condor_tarballs><condor_tarball arch="default" os="default" version="default" tar_file="{home}/condor.tar.gz"/>
  </condor_tarballs>
  <monitoring_collectors/>
  <entries>
    <entry name="{entry}" gatekeeper="ce.example.org ce.example.org:9619">
      <config>
        <max_jobs><per_frontends><per_frontend name="x"/></per_frontends></max_jobs>
        <submit><submit_attrs><submit_attr name="x"/></submit_attrs></submit>
      </config>
      <allow_frontends><allow_frontend name="x"/></allow_frontends>
      <attrs><attr name="x" value="1"/></attrs>
    </entry>
  </entries>
</glidein>
"""


@dataclass(frozen=True)
class Parsed:
    """What glideinWMS makes of a configuration.

    Attributes:
        xml: all files merged, defaults filled in.
        submit_files: entry -> text of the submit file that is generated for it.
    """

    xml: str
    submit_files: dict[str, str]


def is_checkout(path: str) -> bool:
    """Tell whether a path names a glideinWMS checkout."""
    return bool(path) and (Path(path) / "creation" / "lib" / "factoryXmlConfig.py").is_file()


class Factory:
    """A factory host below one folder: glideinWMS.xml, config.d, and where reconfig writes.

    Args:
        home: an empty folder.
        checkout: of glideinWMS; any folder name will do.
    """

    def __init__(self, home: Path, checkout: Path) -> None:
        self.config_d = home / "etc" / "config.d"
        self.work = home / "work"
        self._main = home / "etc" / "glideinWMS.xml"
        self._packages = home / "packages"
        # reconfig names files after the second it runs in and fails twice within one; so each run gets its own.
        self._seconds = itertools.count(1_700_000_000)
        # The folders that reconfig expects; it makes those below them.
        for name in ("etc/config.d", "work", "log", "stage", "monitor", "javascriptrrd", "packages"):
            (home / name).mkdir(parents=True)
        for name in ("client-log", "client-proxies"):
            (home / name / "user_frontend").mkdir(parents=True)
        (home / "javascriptrrd" / "javascriptrrd.wlibs.js").write_text("// empty\n", encoding="utf-8")
        # There is a key pair already: reconfig makes none, so it needs no cryptography.
        (self.work / "rsa.key").write_text("not a key\n", encoding="utf-8")
        with tarfile.open(home / "condor.tar.gz", "w:gz") as tar:
            tar.addfile(tarfile.TarInfo("condor_version"))
        self._main.write_text(_MAIN_XML.format(home=home, entry=MAIN_ENTRY), encoding="utf-8")
        (self._packages / "glideinwms").symlink_to(checkout.resolve())

    def parse(self) -> Parsed:
        """Parse the configuration and generate the submit file of each entry."""
        run = self._run("parse", str(self._main))
        assert run.returncode == 0, run.stdout + run.stderr
        return Parsed(**json.loads(run.stdout))

    def reconfig(self) -> subprocess.CompletedProcess[str]:
        """Run reconfig_glidein as the gwms-factory service does."""
        return self._run("reconfig", "-update_scripts", "no", "-xml", str(self._main))

    def active_entries(self) -> set[str]:
        """The entries that the factory would serve after the last reconfig."""
        return set(_values(self.work / "glidein.descript")["Entries"].split(","))

    def job_description(self, entry: str) -> dict[str, str]:
        """What the last reconfig told the factory's daemon about an entry: limits and the like."""
        return _values(self.work / f"entry_{entry}" / "job.descript")

    def submit_file(self, entry: str) -> str:
        """The submit file that the last reconfig left for an entry."""
        return (self.work / f"entry_{entry}" / "job.condor").read_text(encoding="utf-8")

    def pilot_arguments(self, entry: str, request: Mapping[str, str]) -> list[str]:
        """Arguments that the factory's daemon submits an entry's pilots with, for a frontend's request."""
        run = self._run("arguments", entry, json.dumps(dict(request)))
        assert run.returncode == 0, run.stdout + run.stderr
        return str(json.loads(run.stdout)).split()

    def _run(self, part: str, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", str(Path(__file__).resolve()), str(next(self._seconds)), part, *args],
            cwd=self.work,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(self._packages), "LC_ALL": "C.UTF-8"},
            text=True,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )


def factory_for_commands(folder: Path, checkout: str, monkeypatch: pytest.MonkeyPatch) -> Factory:
    """A factory in `factory` of a folder, for which gwms-bosco renders what it finds in `sites.d` there."""
    (folder / "factory").mkdir()
    factory = Factory(folder / "factory", Path(checkout))
    for name in ("sites.d", "state"):
        (folder / name).mkdir()
    monkeypatch.delenv("GWMS_BOSCO_CONFIG", raising=False)
    monkeypatch.setenv("GWMS_BOSCO_SITES", str(folder / "sites.d"))
    monkeypatch.setenv("GWMS_BOSCO_STATE", str(folder / "state"))
    monkeypatch.setenv("GWMS_BOSCO_CONFIG_D", str(factory.config_d))
    return factory


def _values(path: Path) -> dict[str, str]:
    """Read a file of `key value` lines."""
    lines = [line.split(None, 1) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line[0]: line[1].strip() if len(line) > 1 else "" for line in lines if line}


# Modules that glideinWMS imports on its way to reconfig, which needs nothing of them but sums of files; those are
# real, by hashlib. They are replaced whether installed or not: the run is the same everywhere. Whatever else is asked
# of them fails the run.
_REPLACED = ("M2Crypto", "cryptography", "jwt", "distutils")


class _MessageDigest:
    """Stand-in for M2Crypto.EVP.MessageDigest and cryptography's hashes.Hash."""

    def __init__(self, algorithm: Any, backend: Any = None) -> None:
        del backend
        self._hash = hashlib.new(algorithm if isinstance(algorithm, str) else type(algorithm).__name__.lower())

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def final(self) -> bytes:
        return self._hash.digest()

    finalize = final


class _StandIn(ModuleType):
    """A module whose names in lower case are stand-ins too, and whose other names are classes that cannot be used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.islower():
            return importlib.import_module(f"{self.__name__}.{name}")

        def refuse(*_: Any, **__: Any) -> None:
            raise RuntimeError(f"{self.__name__}.{name} is a stand-in")

        return type(name, (), {"__init__": refuse})


_REAL_PARTS: dict[str, dict[str, Any]] = {
    "M2Crypto.EVP": {"MessageDigest": _MessageDigest},
    "cryptography.hazmat.backends": {"default_backend": lambda: None},
    "cryptography.hazmat.primitives.hashes": {
        "Hash": _MessageDigest,
        **{name: type(name, (), {}) for name in ("MD5", "SHA1", "SHA224", "SHA256")},
    },
    "distutils.spawn": {"find_executable": shutil.which},
}


class _StandIns(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Optional[ModuleSpec]:
        del path, target
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] in _REPLACED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(_REAL_PARTS.get(module.__name__, {}))


def _set_second(second: str) -> None:
    constants: Any = importlib.import_module("glideinwms.creation.lib.cWConsts")
    constants.TIMESTR = constants.get_timestr(float(second))


def _parse(main_xml: str) -> Parsed:
    configuration = importlib.import_module("glideinwms.creation.lib.factoryXmlConfig")
    generator = importlib.import_module("glideinwms.creation.lib.cgWCreate")
    conf = configuration.parse(main_xml)
    submit_files = {}
    for entry in conf.get_entries():
        submit = generator.GlideinSubmitDictFile(".", "job.condor")
        submit.populate("glidein_startup.sh", entry.getName(), conf, entry)
        submit_files[entry.getName()] = submit.save_into_str()
    return Parsed(ElementTree.tostring(_element(conf), encoding="unicode"), submit_files)


def _element(node: Any) -> ElementTree.Element:
    """An element of glideinWMS's tree (DictElement or ListElement) as XML again."""
    element = ElementTree.Element(node.tag, dict(getattr(node, "attrs", {})))
    children = node.children.values() if isinstance(node.children, dict) else node.children
    element.extend(_element(child) for child in children)
    return element


def _pilot_arguments(entry: str, request: dict[str, str]) -> str:
    """Runs in the factory's work folder."""
    library: Any = importlib.import_module("glideinwms.factory.glideFactoryLib")
    config: Any = importlib.import_module("glideinwms.factory.glideFactoryConfig")
    web = [request[f"Web{name}"] for name in ("URL", "SignType", "DescriptFile", "DescriptSign")]
    web += [request["GroupName"], *(request[f"WebGroup{name}"] for name in ("URL", "DescriptFile", "DescriptSign"))]
    parameters = {name[len("GlideinParam") :]: value for name, value in request.items() if name[:12] == "GlideinParam"}
    # As glideFactoryEntry.py does before it calls the library.
    parameters = {**config.JobParams(entry).data, **parameters}
    credentials = SimpleNamespace(
        id="cred",
        username="frontend",
        security_class="frontend",
        identity_credentials={"RemoteUsername": "pilot"},
        security_credentials={"PrivateKey": "key", "GlideinProxy": "proxy"},
    )
    client, web_of = request["ClientName"], library.ClientWeb(*web)
    log = logging.getLogger()
    found = library.get_submit_environment(entry, client, credentials, web_of, parameters, 0, log=log)
    (line,) = [line for line in found if line.startswith("GLIDEIN_ARGUMENTS=")]
    return str(line.partition("=")[2])


def _main(second: str, part: str, args: Sequence[str]) -> None:
    sys.meta_path.insert(0, _StandIns())
    # sys.path[0] is the folder of this file; nothing of the tests may be found by glideinWMS.
    del sys.path[0]
    _set_second(second)
    if part == "parse":
        sys.stdout.write(json.dumps(vars(_parse(*args))))
        return
    if part == "arguments":
        sys.stdout.write(json.dumps(_pilot_arguments(args[0], json.loads(args[1]))))
        return
    package = importlib.import_module("glideinwms")
    program = Path(str(package.__path__[0])) / "creation" / "reconfig_glidein"
    sys.path.insert(0, str(program.parent))
    sys.argv = [str(program), *args]
    runpy.run_path(str(program), run_name="__main__")


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3:])
