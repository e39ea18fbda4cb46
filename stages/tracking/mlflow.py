"""MLflow: one of its runs for all stages, at MLFLOW_TRACKING_URI, or else in a database in the run."""

import os
import time
from collections.abc import Mapping
from typing import Any

from schemas.errors import ConfigError
from stages.tracking.tracker import Tracked

_TAG = "cyborgs.run"


class MLflow:
    """A run of MLflow, by its id there."""

    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send them in one request."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        """The stage is over; the next one opens the run again."""
        self._client.set_terminated(self._run)


def open_tracker(tracked: Tracked, first_step: int) -> MLflow:
    """Start, or go on with, the MLflow run of this run: found again by a tag.

    Raises:
        ConfigError: there is no place to keep it.
    """
    del first_step  # nothing that was sent is taken back
    # It counts its users for its makers, for which nobody asked. Both are read when it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow import MlflowClient

    uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
    if not uri:
        if tracked.logs is None:
            raise ConfigError("set MLFLOW_TRACKING_URI: this run is not on a disk, where it could be kept")
        tracked.logs.mkdir(parents=True, exist_ok=True)
        uri, artifacts = f"sqlite:///{tracked.logs / 'mlflow.db'}", (tracked.logs / "artifacts").as_uri()
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(tracked.project)
    if experiment is not None:
        place = experiment.experiment_id
    else:
        place = client.create_experiment(tracked.project, artifact_location=artifacts)
    found = client.search_runs([place], f"tags.`{_TAG}` = '{tracked.identity}'", max_results=1)
    if not found:
        made = client.create_run(place, run_name=tracked.run, tags={_TAG: tracked.identity})
        return MLflow(client, made.info.run_id)
    client.update_run(found[0].info.run_id, status="RUNNING")
    return MLflow(client, found[0].info.run_id)
