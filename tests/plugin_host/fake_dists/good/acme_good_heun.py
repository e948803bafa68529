"""Needs a package that only the extra ``heun`` brings."""

import acme_numerics  # noqa: F401
