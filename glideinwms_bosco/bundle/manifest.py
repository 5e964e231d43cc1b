# SPDX-License-Identifier: Apache-2.0
"""The manifest of a bundle: what is in it, what was repaired, what it needs remotely; strict JSON both ways."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from glideinwms_bosco.errors import BundleError

FORMAT_VERSION = 2
MAX_MANIFEST_BYTES = 1 << 20
MAX_ENTRIES = 1000
MAX_FILE_BYTES = 256 << 20
MANIFEST_NAME = "manifest.json"

_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HINT = "build the bundle again"
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class FileEntry:
    """One file: path in the bundle, sha256 (hex), mode, size in bytes, origin (path in its source)."""

    path: str
    sha256: str
    mode: int
    size: int
    origin: str


@dataclass(frozen=True)
class BundleFile:
    """Content, octal mode (0644 or 0755), and where the content came from (path in its source)."""

    content: bytes
    mode: int
    origin: str

    def entry(self, path: str) -> FileEntry:
        """Return the manifest's row for this file at `path`."""
        digest = hashlib.sha256(self.content).hexdigest()
        return FileEntry(path, digest, self.mode, len(self.content), self.origin)


@dataclass(frozen=True)
class LinkEntry:
    """One symbolic link: path in the bundle and a relative target inside its own directory."""

    path: str
    target: str


@dataclass(frozen=True)
class Override:
    """One file that was laid over the bundle.

    Attributes:
        path, sha256: of the file as it is now.
        origin: where it comes from.
        replaced_sha256, replaced_origin: of the file it replaces; both empty when there was none, and the digest when
            it was a link.
    """

    path: str
    sha256: str
    origin: str
    replaced_sha256: str
    replaced_origin: str


@dataclass(frozen=True)
class ConfigSetting:
    """One key of blah.config that an operator has set: value, and where it was set."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True)
class Repair:
    """One applied repair: its name, the file it changed, why."""

    name: str
    path: str
    why: str


def tree_digest(files: Iterable[FileEntry], links: Iterable[LinkEntry]) -> str:
    """Return the sha256 (hex) over path, mode, kind and content of everything; origins and times do not count."""
    rows = [f"{entry.path} file {entry.mode:04o} {entry.sha256}\n" for entry in files]
    rows += [f"{entry.path} link {entry.target}\n" for entry in links]
    return hashlib.sha256("".join(sorted(rows)).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """Everything that is known about a bundle.

    Attributes:
        digest: name of the version directory; tree_digest of files and links.
        source: label for the operator; no part of the digest.
        architecture: `uname -m` spelling.
        glibc_min: "x.y", highest GLIBC_x.y symbol version of all ELF files.
        system_libraries: sonames the remote machine must have.
        remote_commands: what the login node must have beside its batch system.
        known_limits: defects that remain, one line each.
        overrides: files laid over HTCondor's and ours, and new ones; sorted by path.
        settings: keys of blah.config that an operator has set, sorted.

    Raises:
        BundleError: a path outside the safe pattern, doubled or unsorted entries, a digest that does not fit.
    """

    format_version: int
    digest: str
    batch_system: str
    bosco_dir: str
    htcondor_version: str
    htcondor_platform: str
    source: str
    architecture: str
    glibc_min: str
    system_libraries: tuple[str, ...]
    remote_commands: tuple[str, ...]
    known_limits: tuple[str, ...]
    repairs: tuple[Repair, ...]
    overrides: tuple[Override, ...]
    settings: tuple[ConfigSetting, ...]
    files: tuple[FileEntry, ...]
    links: tuple[LinkEntry, ...]

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise BundleError(f"manifest format {self.format_version} is not known", _HINT)
        if len(self.files) + len(self.links) > MAX_ENTRIES:
            raise BundleError(f"manifest names more than {MAX_ENTRIES} files", _HINT)
        paths = [entry.path for entry in self.files] + [entry.path for entry in self.links]
        _check_paths(paths)
        for group in ([entry.path for entry in self.files], [entry.path for entry in self.links]):
            if group != sorted(group):
                raise BundleError("manifest is not sorted by path", _HINT)
        for entry in self.files:
            if not _DIGEST.fullmatch(entry.sha256) or entry.mode not in (0o644, 0o755):
                raise BundleError(f"manifest: digest or mode of {entry.path} is refused", _HINT)
            if not 0 <= entry.size <= MAX_FILE_BYTES:
                raise BundleError(f"manifest: size of {entry.path} is refused", _HINT)
        for link in self.links:
            # A target in its own directory cannot leave the bundle, whatever else the bundle holds.
            if not _PATH.fullmatch(link.target) or "/" in link.target:
                raise BundleError(f"manifest: target of link {link.path} is refused", _HINT)
            if f"{link.path.rpartition('/')[0]}/{link.target}".lstrip("/") not in {entry.path for entry in self.files}:
                raise BundleError(f"manifest: link {link.path} points to no file of the bundle", _HINT)
        self._check_overrides()
        if self.digest != tree_digest(self.files, self.links):
            raise BundleError("manifest: digest does not fit the listed files", _HINT)

    def _check_overrides(self) -> None:
        digests = {entry.path: entry.sha256 for entry in self.files}
        paths = [override.path for override in self.overrides]
        if paths != sorted(set(paths)):
            raise BundleError("manifest: overrides are not sorted by path", _HINT)
        for override in self.overrides:
            replaced = override.replaced_sha256
            if digests.get(override.path) != override.sha256 or (replaced and not _DIGEST.fullmatch(replaced)):
                raise BundleError(f"manifest: override of {override.path} does not fit its file", _HINT)

    def to_json(self) -> str:
        """Return the manifest as JSON text with sorted keys; same manifest, same text."""
        return json.dumps(asdict(self), sort_keys=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse a manifest; unknown, missing or doubled keys and wrong types are refused.

        Raises:
            BundleError: anything but the exact form that to_json writes.
        """
        if len(text) > MAX_MANIFEST_BYTES:
            raise BundleError(f"manifest is larger than {MAX_MANIFEST_BYTES} bytes", _HINT)
        try:
            data = json.loads(text, object_pairs_hook=_no_doubles, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"manifest is not JSON: {error}", _HINT) from error
        manifest = _typed(cls, data, "manifest")
        if manifest.to_json() != text:
            raise BundleError("manifest is not in the form it was written in", _HINT)
        return manifest


def is_safe_path(path: str) -> bool:
    """Tell whether a path can stand in a manifest: relative, no `..`, nothing that a shell would interpret."""
    return bool(_PATH.fullmatch(path))


def _check_paths(paths: list[str]) -> None:
    for path in paths:
        if not _PATH.fullmatch(path) or path == MANIFEST_NAME:
            raise BundleError(f"manifest: path {path!r} is refused", _HINT)
    known = set(paths)
    if len(known) != len(paths):
        raise BundleError("manifest names a path twice", _HINT)
    for path in paths:
        parts = path.split("/")
        if any("/".join(parts[:depth]) in known for depth in range(1, len(parts))):
            raise BundleError(f"manifest: {path} lies below a file", _HINT)


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


_NESTED: dict[str, type[Any]] = {
    "repairs": Repair,
    "overrides": Override,
    "settings": ConfigSetting,
    "files": FileEntry,
    "links": LinkEntry,
}
_INTEGERS = ("format_version", "mode", "size")
_LISTS = ("system_libraries", "remote_commands", "known_limits")


def _typed(kind: type[_Entry], data: object, where: str) -> _Entry:
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]  # only dataclasses come here
    if not isinstance(data, dict) or set(data) != names:
        unknown = sorted(set(data) ^ names) if isinstance(data, dict) else ["no object"]
        raise BundleError(f"{where}: unknown or missing keys: {', '.join(map(str, unknown))}", _HINT)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key in _NESTED:
            values[key] = tuple(_typed(_NESTED[key], item, f"{where}.{key}") for item in _list(value, where, key))
        elif key in _LISTS:
            values[key] = tuple(_scalar(item, str, where, key) for item in _list(value, where, key))
        else:
            values[key] = _scalar(value, int if key in _INTEGERS else str, where, key)
    return kind(**values)


def _list(value: object, where: str, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise BundleError(f"{where}.{key} is not a list", _HINT)
    return value


def _scalar(value: object, kind: type[Any], where: str, key: str) -> Any:
    if type(value) is not kind:
        raise BundleError(f"{where}.{key} is not a {kind.__name__}", _HINT)
    return value
