# SPDX-License-Identifier: Apache-2.0
"""Names of tests are the same in every process, as those that share a run compare them."""

from __future__ import annotations

from typing import Optional

import pytest

_TOLD_BYTES = 24


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> Optional[str]:
    """Name a long binary value by its length: it may hold a key or a time that was made a moment ago."""
    del config
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) and len(val) > _TOLD_BYTES else None
