# SPDX-License-Identifier: Apache-2.0
"""What a pilot brings along, from the runtime block of a site: attributes, packed scripts, archives."""
