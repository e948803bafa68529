"""Made for a plugin API that is not there yet."""

from sigma_framework import hookimpl

SIGMA_PLUGIN_API = 99


@hookimpl
def sigma_register_metrics() -> list[object]:
    return []
