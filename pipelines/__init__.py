"""Orchestration: the one place that runs DVC, and the Prefect flows."""
