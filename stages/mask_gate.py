"""The mask gate (`masks.keep_if_worse`): new masks that are much worse than the last ones are not used.

That is noted before the first file is replaced: an attempt that was stopped half-way is taken up there.
"""

import json
from dataclasses import asdict, dataclass

from stages.context import Context, Outcome
from stages.mask_health import MaskHealth, measure_health
from storage import layout
from storage.photographs import PhotographReader

_REFUSED = "refused"
"""Partial work: the refusal of the masks that were made. From then on nothing of them counts."""


@dataclass(frozen=True)
class Refusal:
    """Why new masks are not used."""

    reasons: list[str]
    """Which figure fell from what to what."""
    figures: dict[str, float]
    """Of the masks that are kept, for the manifest."""


def noted_refusal(context: Context) -> Refusal | None:
    """What an earlier attempt decided, where it came so far."""
    noted = context.read_partial(_REFUSED)
    return Refusal(**json.loads(noted)) if noted is not None else None


def refuse(context: Context, now: MaskHealth, reader: PhotographReader) -> Refusal | None:
    """Hold new masks against the last ones, where the run says so; None where they are used."""
    last = context.optional_input("previous_masks")
    if last is None:
        return None
    before = measure_health(context, last.path(layout.MASKS), reader)
    reasons = fallen(before, now, share=context.config.masks.keep_if_worse)
    return Refusal(reasons, before.figures()) if reasons else None


def fallen(before: MaskHealth, now: MaskHealth, *, share: float) -> list[str]:
    """Figures of which less than this share is left, each counted from 1: a single region, borders as by chance.

    Masks without any border have borders as by chance. What was at 1 or below before cannot fall. K is drawn anew for
    each group: fewer regions of fewer clusters are no worse, so that their share of K has to have fallen as well.
    """
    pairs = {
        "effective_regions": (before.effective_regions, now.effective_regions),
        "edge_agreement": (before.edge_agreement or 1.0, now.edge_agreement or 1.0),
    }
    if before.evenness is not None and now.evenness is not None and now.evenness >= share * before.evenness:
        del pairs["effective_regions"]
    return [
        f"{name} fell from {was:.3f} to {is_now:.3f}"
        for name, (was, is_now) in pairs.items()
        if was > 1 and is_now - 1 < share * (was - 1)
    ]


def keep_previous(context: Context, refusal: Refusal) -> Outcome:
    """Put the last masks in place of those that were made."""
    last, store, folder = context.input("previous_masks"), context.run.store, f"{context.folder}/{layout.MASKS}"
    assert context.step.cycle is not None
    made_in = last.manifest.summary.get("kept_from", context.step.cycle - 1)
    context.warn(
        f"{context.step.name}: {' and '.join(refusal.reasons)}: the masks of cycle {made_in} are kept "
        f"(masks.keep_if_worse {context.config.masks.keep_if_worse:g})"
    )
    note = context.partial(_REFUSED)
    context.save_partial(_REFUSED, json.dumps(asdict(refusal)).encode())
    # What says that a shard is whole goes first: were the note lost, all of them would be made anew.
    for path in store.list(note.rpartition("/")[0]):
        if path != note:
            store.delete(path)
    store.delete(folder)
    for entry in last.manifest.files:
        if entry.path.startswith(f"{layout.MASKS}/"):
            context.stop.check()
            context.write(entry.path, store.read(f"{last.folder}/{entry.path}"))
    context.workspace(layout.MASKS)  # on S3 it still holds those that were made, which the commit would publish
    return Outcome(last.manifest.content, {**last.manifest.summary, **refusal.figures, "kept_from": made_in})
