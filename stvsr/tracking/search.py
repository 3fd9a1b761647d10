"""The end of a search in MLflow: the parent of its trials' runs gets their table."""

from collections.abc import Mapping
from pathlib import Path

from stvsr.tracking.store import open_client, open_experiment, retrying


def close_search(
    uri: str, experiment: str, run_id: str, results: Path, best: Mapping[str, float]
) -> None:
    """Log the table and the best trial's numbers, and end the parent and every child.

    Trials that the scheduler stopped early left their runs open; they are closed as KILLED.

    Args:
        uri: the store.
        experiment: experiment of the search.
        run_id: MLflow run of the search, the trials' parent.
        results: folder whose files are kept as artifacts.
        best: metrics of the best trial.

    Raises:
        ServiceError: the store does not answer or refuses.
    """
    client = open_client(uri)
    experiment_id = open_experiment(client, experiment)
    with retrying(uri):
        children = client.search_runs(
            [experiment_id], f"tags.mlflow.parentRunId = '{run_id}' and status = 'RUNNING'"
        )
        for child in children:
            client.set_terminated(child.info.run_id, "KILLED")
        for key, value in best.items():
            client.log_metric(run_id, key, value)
        client.log_artifacts(run_id, str(results), "search")
        client.set_terminated(run_id)
