"""`cyborgs compare`: results of evaluations side by side, with what several seeds allow to say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from scipy import stats

from schemas.comparison import Row, Summary, Table
from schemas.digests import digest_json
from schemas.errors import DataError
from schemas.protocols import paper_figures
from schemas.results import ProtocolResult, SkippedProtocol

CONFIDENCE = 0.95


def read_result(path: Path) -> ProtocolResult:
    """A metrics.json.

    Raises:
        DataError: there is none, or it is no protocol's.
    """
    try:
        text = path.read_bytes()
        return ProtocolResult.model_validate_json(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        skipped = SkippedProtocol.read(text)
        if skipped is not None:
            raise DataError(f"{path}: {skipped.protocol} was skipped there: {skipped.skipped}") from error
        detail = error.errors()[0]
        place = ".".join(map(str, detail["loc"])) or "it"
        raise DataError(f"{path}: not a result of `cyborgs evaluate` ({place}: {detail['msg']})") from error


def compare_results(results: Sequence[ProtocolResult]) -> list[Table]:
    """A table for each protocol, settings and data.

    Raises:
        DataError: a result is given twice.
    """
    kinds: dict[str, list[ProtocolResult]] = {}
    for result in results:
        kind = digest_json([result.protocol, result.settings, result.smoke, result.data.digest])
        kinds.setdefault(kind, []).append(result)
    return [_table(same) for same in kinds.values()]


def _table(results: list[ProtocolResult]) -> Table:
    columns = _columns(results)
    first = results[0]
    figures = list(dict.fromkeys(figure for result in results for figure in result.figures))
    paper = {} if first.smoke else paper_figures(first.protocol, first.settings)
    rows = []
    for figure in figures:
        samples = [[each.figures[figure] for each in members if figure in each.figures] for members in columns]
        values = [summarise(sample) if sample else None for sample in samples]
        differences = [None] + [
            difference(samples[0], sample) if samples[0] and sample else None for sample in samples[1:]
        ]
        said = paper.get(figure)
        whole = said is not None and first.figures.get("classes", said.classes) == said.classes
        rows.append(Row(figure, values, differences, (said.value, said.where) if said is not None and whole else None))
    named = zip(_names(columns), columns, strict=True)
    return Table(first.protocol, first.smoke, first.data.path, [(name, len(members)) for name, members in named], rows)


def _columns(results: list[ProtocolResult]) -> list[list[ProtocolResult]]:
    """Results that differ in their seeds alone, together; the same seed again is other weights.

    Raises:
        DataError: a result is given twice.
    """
    columns: list[list[ProtocolResult]] = []
    for result in results:
        same = [members for members in columns if members[0].weights.kind == result.weights.kind]
        alike = [each for members in same for each in members if each.seeds == result.seeds]
        if any(each.weights.digest == result.weights.digest for each in alike):
            raise DataError(
                f"{result.protocol} of {result.weights.name}: the same weights and seeds are given twice: "
                "name each once"
            )
        free = [members for members in same if all(each.seeds != result.seeds for each in members)]
        if free:
            free[0].append(result)
        else:
            columns.append([result])
    return columns


def _names(columns: list[list[ProtocolResult]]) -> list[str]:
    """What each is called; where it is from, and its digest, where several are called the same."""
    weights = [members[0].weights for members in columns]
    names = [each.name for each in weights]
    for more in ([f" of {each.source}" for each in weights], [f" ({each.digest[:8]})" for each in weights]):
        names = [name + add if names.count(name) > 1 else name for name, add in zip(names, more, strict=True)]
    return names


def summarise(sample: Sequence[float]) -> Summary:
    """Mean and half width of its 95 % interval: t of n - 1 degrees of freedom x standard error."""
    if len(sample) < 2:
        return Summary(float(np.mean(sample)), None)
    error = float(np.std(sample, ddof=1)) / len(sample) ** 0.5
    return Summary(float(np.mean(sample)), _quantile(len(sample) - 1) * error)


def difference(first: Sequence[float], second: Sequence[float]) -> Summary:
    """Second minus first, with Welch's interval where both have several seeds."""
    mean = float(np.mean(second) - np.mean(first))
    if min(len(first), len(second)) < 2:
        return Summary(mean, None)
    one, two = (float(np.var(sample, ddof=1)) / len(sample) for sample in (first, second))
    if one + two == 0:
        return Summary(mean, 0.0)
    freedom = (one + two) ** 2 / (one**2 / (len(first) - 1) + two**2 / (len(second) - 1))
    return Summary(mean, _quantile(freedom) * (one + two) ** 0.5)


def _quantile(freedom: float) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
