"""Needs a package that nobody has."""

import acme_package_that_is_not_there  # noqa: F401
