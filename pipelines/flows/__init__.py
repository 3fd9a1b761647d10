"""The only Prefect: flows decide when the stages of dvc.yaml run."""
