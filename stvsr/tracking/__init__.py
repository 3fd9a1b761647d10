"""The only MLflow: runs and their curves, the registry of versions."""
