"""Prefect flows, which run the stages of dvc.yaml. The only importer of Prefect.

The environment is set here, since importing Prefect sends telemetry where that is on, and ends in a
traceback where there is no home folder.
"""

import importlib.util
import os
import sys

from stvsr.cli import TELEMETRY_OFF
from stvsr.core.extras import missing
from stvsr.core.home import ensure_home

for _name, _value in TELEMETRY_OFF.items():
    os.environ.setdefault(_name, _value)
ensure_home()
if importlib.util.find_spec("prefect") is None:
    sys.exit(f"pipelines.flows: {missing('prefect', 'flow')}")
