"""A step of a baseline whose batch is shared out over processes is the step of the whole batch."""

import pytest
from torch import Tensor

from cyborgs.baselines.network import Method
from tests.cyborgs.baselines import whole_steps
from tests.cyborgs.baselines.whole_steps import METHODS, take_steps
from tests.cyborgs.sharing import assert_alike, two_processes


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of two processes has, with half the batch each."""
    return two_processes(whole_steps.__file__, tmp_path_factory.mktemp("shared"))


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_take_the_step_of_one(method: Method, shared: list[dict[str, Tensor]]) -> None:
    """Negatives are those of the global batch (SimCLR), queues hold its keys in its order (MoCo, DenseCL)."""
    whole = take_steps(method)
    for each in shared:
        opening = f"{method}: "
        assert_alike({n.removeprefix(opening): t for n, t in each.items() if n.startswith(opening)}, whole)
