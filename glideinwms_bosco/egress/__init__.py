# SPDX-License-Identifier: Apache-2.0
"""Room `egress`: closed sites, whose workers reach only the login node."""
