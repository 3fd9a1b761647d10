"""Runs and their curves, and the registry of versions. The only importer of MLflow."""
