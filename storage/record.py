"""run.json as bytes: what a run was told, with digests beside it, and what is wrong where they do not match."""

import json
from typing import Any

from pydantic import ValidationError

from schemas.artifacts import RunRecord, refuse_other_format, result_digest
from schemas.config import RunConfig
from schemas.digests import digest_json
from schemas.errors import RunError

_CHECKS = "checks"
"""Beside what it says: digests of that."""


class DamagedRecordError(RunError):
    """It is not what was written; the message says why."""


def encode_record(record: RunRecord) -> bytes:
    """The record as JSON for people, digests of it at the end."""
    tree = record.model_dump(mode="json")
    return (json.dumps(tree | {_CHECKS: _digests(tree)}, indent=1) + "\n").encode()


def decode_record(text: bytes, *, where: str) -> RunRecord:
    """The record, held against its digests where it has them: those of the first versions have none.

    Placement never changes a result, so it is not looked at here: see `is_placement_whole`.

    Raises:
        DamagedRecordError: it is not what was written.
        RunError: another version wrote it, in a way that this one does not know.
    """
    try:
        tree = json.loads(text)
        checks = tree.pop(_CHECKS, None) if isinstance(tree, dict) else None
        whole = checks is None or checks["record"] == _digests(tree)["record"]
        if whole:
            refuse_other_format(tree, where=where)
            _take_up_digest(tree, checks, where=where)
        record = RunRecord.model_validate(tree)  # names the setting at fault, where it is one
        if not whole:
            raise ValueError("its digest does not match what it says")
        return record
    except RunError:
        raise
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(str(part) for part in detail["loc"]) or "it"
        raise DamagedRecordError(f"{place}: {detail['msg']}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedRecordError(f"it: {error}") from error


def is_placement_whole(text: bytes) -> bool:
    """Whether `config.placement`, too, is what was written; of a record that can be decoded."""
    tree = json.loads(text)
    return _placement_matches(tree, tree.pop(_CHECKS, None))


def _placement_matches(tree: dict[str, Any], checks: dict[str, str] | None) -> bool:
    return checks is None or checks.get("placement") == _digests(tree)["placement"]


def _take_up_digest(tree: dict[str, Any], checks: dict[str, str] | None, *, where: str) -> None:
    """Let a record that an earlier version wrote, which had fewer settings, name the digest of all of today's.

    A config that does not have the digest beside it is left for the record to refuse.

    Raises:
        RunError: it was written with settings that this version does not know.
    """
    config = tree["config"]
    written = {name: part for name, part in config.items() if name != "placement"}
    if digest_json(written) != tree["config_digest"]:
        return
    try:
        tree["config_digest"] = result_digest(RunConfig.model_validate(config))
    except ValidationError as error:
        detail = error.errors()[0]
        if detail["loc"][0] == "placement" and not _placement_matches(tree, checks):
            return
        setting = ".".join(str(part) for part in detail["loc"])
        raise RunError(
            f"{where} was written by version {tree['created']['code']}, with settings that this one reads otherwise "
            f"({setting}: {detail['msg'][0].lower()}{detail['msg'][1:]}): go on with that one, or choose another --run"
        ) from error


def _digests(tree: dict[str, Any]) -> dict[str, str]:
    """Of what a record says: of all but placement, and of that."""
    config = dict(tree["config"])
    placement = config.pop("placement", None)
    return {"record": digest_json(tree | {"config": config}), "placement": digest_json(placement)}
