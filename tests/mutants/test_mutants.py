"""The lists keep up with the code that they change."""

import pytest

from tests.mutants.automatic import MODULES, mirrored_by
from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.forked import ROOT
from tests.mutants.mutants import MUTANTS, Mutant
from tests.mutants.operators import mutations


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_changes_one_place_of_todays_code(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.before) == 1
    assert mutant.before != mutant.after
    assert (ROOT / "tests" / mutant.tests).exists()


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("file", MODULES)
def test_mutations_of_a_module_are_ours_alone_and_all_there(file: str) -> None:
    """Each excluded mutation is one that is made, and each module has tests that mirror it."""
    found = list(mutations(file, ROOT))
    assert found
    assert all(mutation.before != mutation.after for mutation in found)
    made = {(mutation.file, mutation.before, mutation.after) for mutation in found}
    assert {excluded for excluded in EQUIVALENT if excluded[0] == file} <= made
    assert (ROOT / mirrored_by(file)).exists()


def test_every_exclusion_names_a_module_and_a_reason() -> None:
    assert {file for file, _, _ in EQUIVALENT} <= set(MODULES)
    assert all(EQUIVALENT.values())
