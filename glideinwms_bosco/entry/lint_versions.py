# SPDX-License-Identifier: Apache-2.0
"""Rules that differ between glideinWMS 3.10 and 3.11.

Source: glideinWMS 3.11.3 factory/glideFactoryCredentials.py (check_security_credentials) and lib/credentials;
3.10 splits auth_method at `+` only.
"""

from __future__ import annotations

import re

from glideinwms_bosco.entry.lint_context import Scope, shown


def check_version(scope: Scope) -> None:
    """Check an entry for the stated glideinWMS version."""
    auth_method = scope.get("auth_method", "grid_proxy")
    if scope.context.gwms_version == "3.10":
        if re.search("[;,]", auth_method):
            scope.found(102, scope.element, f"auth_method={shown(auth_method)} is one word for 3.10")
        return
    words = re.split("[+;,]", auth_method)
    if "username" in words:
        scope.found(101, scope.element, f"auth_method={shown(auth_method)} asks for username")
    if "key_pair" not in words:
        return
    consent = scope.attr("CONTINUE_IF_NO_PROXY")
    if consent is None or str(consent.get("value", "")).lower() != "true":
        scope.found(100, scope.element, "key_pair without CONTINUE_IF_NO_PROXY: a frontend 3.11 sends no proxy")
    elif consent.get("const", "True") != "False" or consent.get("parameter", "True") != "True":
        scope.found(100, scope.element, "CONTINUE_IF_NO_PROXY is not const False and parameter True")
    if scope.batch is not None and "@" not in scope.get("gatekeeper") and "RemoteUsername" not in words:
        scope.found(103, scope.element, f"gatekeeper={shown(scope.get('gatekeeper'))} names no user")
