"""`store`: bytes of a committed mask store, a photograph; and how many times less than int64 masks of full size."""

from benchmarks.bootstrap import bootstrapped_run, made, photographs_of
from benchmarks.figure import Bench, Figure
from benchmarks.photographs import take_photographs
from benchmarks.runs import artifact, bootstrap
from storage import layout
from storage.masks import read_rows

MOST_BYTES, LEAST_SAVING = 5_000, 400
_INT64_BYTES = 8


def measure(bench: Bench) -> list[Figure]:
    """ResNet-50 up to layer2.2, longer side 640, K ~ U{2..256}; the store that `bootstrap` left, where it ran."""
    photographs = take_photographs(bench.work, photographs_of(bench))
    precision = bench.precisions[-1]
    url = bootstrapped_run(bench, photographs, precision)
    stored = sum(entry.bytes for entry in bootstrap(url, again=False).files)
    rows = [row for _, row in read_rows(artifact(url, "bootstrap-masks", 0).path(layout.MASKS))]
    full = sum(row.image_size[0] * row.image_size[1] * _INT64_BYTES for row in rows)
    each, saving = stored / len(rows), full / stored
    counts = {**made(url), "store bytes": stored, "int64 bytes": full}
    note = f"{photographs.kind}; start weights, {precision}"
    return [
        Figure("store", each, MOST_BYTES, "lower", "bytes/photograph", counts, (each, each), 1, note=note),
        Figure("store below int64", saving, LEAST_SAVING, "higher", "x", counts, (saving, saving), 1, note=note),
    ]
