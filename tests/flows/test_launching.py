"""What is looked at before the first stage starts."""

from pathlib import Path

import pytest

from flows.launching import check_machine
from schemas import extras
from schemas.errors import ConfigError
from tests.pipeline import prepare


@pytest.mark.parametrize(
    ("visible", "settings", "advice"),
    [
        ("", (), None),
        ("-1", (), None),
        ("0,1,2,3", (), None),
        ("0,1,2", (), "world_size=2 "),  # a batch of 4 does not divide by 3
        ("5", (), "world_size=1 "),
        ("5", ("placement.device=cpu",), None),
        ("5", ("placement.launcher=deployment",), None),
    ],
)
def test_too_few_gpus_are_noticed_before_hours_of_work(
    tmp_path: Path,
    photographs: Path,
    tiny_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    settings: tuple[str, ...],
    advice: str | None,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("CYBORGS_LAUNCHER", raising=False)
    shared = ("numerics.world_size=4", "placement.launcher=process", *settings)
    run = prepare(tmp_path / "run", tiny_config, photographs, *shared)
    if advice is None:
        check_machine(run)
    else:
        with pytest.raises(ConfigError, match=rf"world_size 4.*this machine has.*{advice}"):
            check_machine(run)


def test_a_missing_package_is_named_before_hours_of_work(
    tmp_path: Path, photographs: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stages run on this machine; in containers it is the stage that says so."""
    monkeypatch.delenv("CYBORGS_LAUNCHER", raising=False)
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    here, refined, away = (
        prepare(tmp_path / name, tiny_config, photographs, *settings)
        for name, settings in (
            ("plain", ("placement.launcher=process",)),
            ("refined", ("placement.launcher=process", "masks.crf=true")),
            ("away", ("placement.launcher=deployment", "masks.crf=true")),
        )
    )
    check_machine(here)
    check_machine(away)
    with pytest.raises(ConfigError, match=r"^masks.crf: .*pip install pydensecrf2"):
        check_machine(refined)
