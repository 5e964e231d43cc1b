# SPDX-License-Identifier: Apache-2.0
"""Bundles of one command: each is built once, and files that several have in common are in memory once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import replace

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.errors import BoscoError


class SharedBundles:
    """Used by all threads of a command. Bundles are built one after the other: each takes tens of megabytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bundles: dict[Hashable, Bundle] = {}
        self._failed: dict[Hashable, BoscoError] = {}
        self._contents: dict[bytes, bytes] = {}

    def get(self, key: Hashable, build: Callable[[], Bundle]) -> Bundle:
        """The bundle of this key, built when it is asked for the first time.

        Args:
            key: says all that makes the bundle what it is.
            build: builds it; not called again when it has failed, a download that times out would do so each time.

        Raises:
            BoscoError: as `build` has raised it.
        """
        with self._lock:
            if key in self._failed:
                raise self._failed[key]
            if key not in self._bundles:
                try:
                    self._bundles[key] = self._shared(build())
                except BoscoError as error:
                    self._failed[key] = error
                    raise
            return self._bundles[key]

    def _shared(self, bundle: Bundle) -> Bundle:
        files = {
            path: replace(file, content=self._contents.setdefault(file.content, file.content))
            for path, file in bundle.files.items()
        }
        return Bundle(bundle.manifest, files, bundle.links)
