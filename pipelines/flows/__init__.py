"""Prefect flows, which run the stages of dvc.yaml. The only importer of Prefect."""
