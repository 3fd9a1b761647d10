"""The only Prefect: flows decide when stages run; what they do stands in dvc.yaml."""
