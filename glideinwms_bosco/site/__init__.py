# SPDX-License-Identifier: Apache-2.0
"""The site description: one YAML file per site, loaded into frozen, typed objects."""
