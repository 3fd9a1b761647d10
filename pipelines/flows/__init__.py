"""Prefect flows, which run the stages of dvc.yaml. The only importer of Prefect."""

from stvsr.core.home import ensure_home

ensure_home()  # here, since importing Prefect ends in a traceback where there is no home folder
