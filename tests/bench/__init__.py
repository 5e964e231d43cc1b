# SPDX-License-Identifier: Apache-2.0
"""`make bench`: measurements of the product and, in the same run, of what a user would do instead."""
