"""Makes a data set (section 3.1): records from a source, through stages, into SIGMA-SET shards.

Every stage keeps what it did per unit of records, so that a build goes on where it was stopped, and a build that was
stopped gives the same bytes as one that was not.
"""

from sigma_framework.dataset_build.build import Build, Stage, run_build
from sigma_framework.dataset_build.plan import plan_build
from sigma_framework.dataset_build.records import record_of

__all__ = ["Build", "Stage", "plan_build", "record_of", "run_build"]
