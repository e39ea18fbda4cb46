"""Numbers that grow beyond all bounds stop the run, and what was good is kept."""

import math
from pathlib import Path

import pytest
from torch.optim import Optimizer

from cyborgs.optimization.optimizers import set_learning_rate
from cyborgs.training import state as training_state
from schemas.digests import unseal
from schemas.errors import RunError
from schemas.stages import StageRequest
from stages.execute import run_stage
from storage.artifacts import standing
from storage.checkpoints import decode_tensors
from storage.run import open_run
from tests.pipeline import assert_same_tensors, prepare


@pytest.mark.parametrize(("factor", "named"), [(math.inf, "network/"), (1e30, "warm-up: ")])
def test_last_good_state_is_kept_and_gone_on_from(
    tmp_path: Path,
    photographs: Path,
    tiny_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    named: str,
) -> None:
    """The fourth update has a rate beyond reason: weights that are not finite, or so large that the next loss is not.

    Every step is saved; the one before is what a second attempt, with the right rate, starts from.
    """
    settings = ("optimization.optimizer=sgd", "placement.checkpoint_every_minutes=1e-9")
    request = {}
    for name in ("disturbed", "undisturbed"):
        prepare(tmp_path / name, tiny_config, photographs, *settings)
        run_stage(StageRequest(run=str(tmp_path / name), stage="index-images"))
        request[name] = StageRequest(run=str(tmp_path / name), stage="warm-up")
    rates: list[float] = []

    def beyond_reason(optimizer: Optimizer, rate: float) -> None:
        rates.append(rate)
        set_learning_rate(optimizer, rate * (factor if len(rates) == 4 else 1))

    with monkeypatch.context() as patch:
        patch.setattr(training_state, "set_learning_rate", beyond_reason)
        with pytest.raises(RunError, match=rf"{named}.*not finite.*last saved state is kept.*learning_rate"):
            run_stage(request["disturbed"])
    run = open_run(request["disturbed"].run)
    found = standing(run, "warm-up", None)
    assert found.state == "partial"
    (saved,) = (tmp_path / "disturbed" / str(found.folder)).rglob("*state*")
    state = unseal(saved.read_bytes())
    assert state is not None
    tensors, position = decode_tensors(state)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    if math.isfinite(factor):
        return  # that state is finite, and as far as anyone could tell good
    assert position["step"] == 3
    for each in request.values():
        run_stage(each)
    folders = [tmp_path / name / str(standing(open_run(r.run), "warm-up", None).folder) for name, r in request.items()]
    assert_same_tensors(*folders)
