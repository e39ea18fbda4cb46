"""What Prefect's page of a run shows: the stage's lines, its progress, and a table of results."""

import re
from collections.abc import Callable
from typing import cast
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run

from flows.watch import Watch, print_line
from schemas.plan import find_step
from schemas.stages import StageRequest
from storage import layout
from storage.artifacts import Standings
from storage.heartbeat import Heartbeat
from storage.run import Run, open_run


def watch_on_page(request: StageRequest) -> Watch:
    """A watch whose lines and progress reach the page of the flow run that this is called in."""
    run = open_run(request.run)
    step = find_step(run.config, request.stage, request.cycle)
    # Of a stage that a flow waits for, that flow's page shows the progress.
    progress = _Progress(run, step.name, shown=flow_run.parent_flow_run_id is None)
    return Watch(
        run,
        step,
        say=_teller(),
        show=progress.show,
        finish=progress.finish,
        # A terminal gets the stage's live bar; a deployment's run has nobody in front of it.
        capture=deployment.id is not None,
    )


def _teller() -> Callable[[str], None]:
    """Lines to the terminal and to the page. Taken here, since other threads do not know which run this is."""
    try:
        logger = get_run_logger()
    except MissingContextError:
        return print_line

    def say(message: str) -> None:
        print_line(message)
        logger.info(message)

    return say


class _Progress:
    """A progress artifact per stage. The page is for looking at: whatever happens to it, the stage goes on."""

    def __init__(self, run: Run, name: str, *, shown: bool) -> None:
        self._name = name
        self._key = artifact_key(run, name)
        self._artifact: UUID | None = None
        self._shown, self._told = shown, False

    def show(self, beat: Heartbeat) -> None:
        if beat.total:
            self._set(100 * beat.done / beat.total, f"{self._name}: {beat.position}")

    def finish(self) -> None:
        self._set(100.0, f"{self._name}: done")

    def _set(self, percent: float, description: str) -> None:
        if not self._shown:
            return
        try:
            if self._artifact is None:
                made = create_progress_artifact(percent, key=self._key, description=description)
                self._artifact = cast(UUID, made)
            else:
                update_progress_artifact(self._artifact, percent, description=description)
        except Exception as error:
            if not self._told:
                print_line(f"{self._name}: progress is not shown on Prefect's page: {error}")
            self._told = True


def show_results(run: Run) -> None:
    """A table of every stage with its figures, and where the report is; renewed after every cycle."""
    lines = ["| stage | state | took | figures |", "|---|---|---|---|"]
    for found in Standings(run).all():
        manifest = found.manifest
        took = f"{manifest.provenance.seconds:.0f} s" if manifest else ""
        figures = ", ".join(f"{name} {value}" for name, value in manifest.summary.items()) if manifest else ""
        lines.append(f"| {found.step.name} | {found.state} | {took} | {figures} |")
    if run.store.size(layout.REPORT) is not None:
        lines += ["", f"Report: `{run.store.url}/{layout.REPORT}`"]
    try:
        create_markdown_artifact(
            f"## {run.record.name}\n\n`{run.store.url}`\n\n" + "\n".join(lines), key=artifact_key(run, "results")
        )
    except Exception as error:  # as above
        print_line(f"results are not shown on Prefect's page: {error}")


def artifact_key(run: Run, name: str) -> str:
    """Prefect's keys are lower-case letters, digits and dashes, and shared by all runs."""
    place = run.store.url.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9]+", "-", f"{place}-{name}".lower()).strip("-")
