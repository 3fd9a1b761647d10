"""Prefect flows, which run the stages of dvc.yaml. The only importer of Prefect.

The environment is set here, since importing Prefect sends telemetry where that is on, and ends in a
traceback where there is no home folder.
"""

import os

from stvsr.cli import TELEMETRY_OFF
from stvsr.core.home import ensure_home

for _name, _value in TELEMETRY_OFF.items():
    os.environ.setdefault(_name, _value)
ensure_home()
