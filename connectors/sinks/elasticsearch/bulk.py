"""A bulk request until every one of its rows is taken or refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from connectors.errors import DependencyFailed
from connectors.retries import TransientError, with_retries
from connectors.sinks.bisect import Bisect
from connectors.sinks.elasticsearch.client import Connection, RequestRejected

PATH = (
    "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,"
    "items.*.error.caused_by.reason"
)
_MARKS = ",items.*._seq_no,items.*._primary_term"
TAKEN, CONFLICT = {200, 201}, 409
TOO_LARGE = 413
ABOUT_THE_ROW = {
    "document_parsing_exception",
    "mapper_exception",
    "mapper_parsing_exception",
    "strict_dynamic_mapping_exception",
}
ILLEGAL = "illegal_argument_exception"
ILLEGAL_ROW = ("Document contains at least one immense term", "DocValuesField ")
"""How reasons of ILLEGAL begin that are about the document. What cannot be parsed has a type of its
own; any other reason is about the index: its templates, pipelines, alias, limits."""
INDEX_GONE = "index_not_found_exception"
ADVICE = {
    "cluster_block_exception": "its disk may be full: free space, then lift the block",
    ILLEGAL: "see its settings, and which templates and pipelines others gave it",
    "index_closed_exception": "open the index, or prune it",
    INDEX_GONE: "let action.auto_create_index allow it; an index of rollover comes back by "
    "`odograph elasticsearch prepare`",
    "security_exception": "check what sinks.elasticsearch.api_key or user may do",
    "validation_exception": "the cluster takes no more indices: prune, or raise its limits",
}


@dataclass
class Delivery:
    """`lines` on their way, one a row (see documents.lines). `refused` has the reason of each row
    that was, by place; `conflicts` the places of rows whose condition did not hold, which for rows
    with a version means that the store has it or a later one; `lost` those of rows whose index is
    gone and which may go to the index `newest` instead; `marks`, where rows are `marked`, sequence
    number and primary term of each that was taken; `size` bytes were sent, before compression;
    `retries` were repeats."""

    connection: Connection
    lines: pa.LargeStringArray
    newest: str | None = None
    marked: bool = False
    refused: dict[int, str] = field(default_factory=dict)
    conflicts: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    marks: dict[int, tuple[int, int]] = field(default_factory=dict)
    size: int = 0
    retries: int = 0
    _open: np.ndarray = field(default_factory=lambda: np.arange(0))

    def deliver(self) -> None:
        """Until all rows are taken, refused or lost. Raises DependencyFailed."""
        self._open = np.arange(len(self.lines))
        with_retries(self.connection.settings, self._attempt, self._count_retry)

    def _count_retry(self) -> None:
        self.retries += 1

    def _attempt(self) -> None:
        left, why = [self._open[:0]], ""
        parts = Bisect([self._open])
        for places in parts:
            again, reason = self._send(places, parts)
            left.append(again)
            why = why or reason
        self._open = np.concatenate(left)
        if len(self._open):
            raise TransientError(
                f"{self.connection.shown}: {len(self._open)} rows not taken, such as {why}"
            )

    def _send(self, places: np.ndarray, parts: Bisect[np.ndarray]) -> tuple[np.ndarray, str]:
        """Send these rows; which of them are to be sent again, and why the first of them is. A
        request that is too large goes in two halves, which are put before the other `parts`."""
        body = _together(self.lines, places)
        self.size += len(body)
        try:
            answer = self.connection.lines(PATH + _MARKS if self.marked else PATH, body)
        except RequestRejected as error:
            if error.status != TOO_LARGE:
                raise DependencyFailed(
                    f"{self.connection.shown}: _bulk: {error}; check sinks.elasticsearch.hosts"
                ) from None
            if not parts.halve(places):
                self.refused[int(places[0])] = str(error)
            return places[:0], ""
        if answer.get("errors") is False and not self.marked:
            return places[:0], ""
        items = answer.get("items")
        if not isinstance(items, list) or len(items) != len(places):
            raise TransientError(
                f"{self.connection.shown}: _bulk: an answer that does not tell of every row"
            )
        return self._sort(places, items)

    def _sort(self, places: np.ndarray, items: list[dict[str, Any]]) -> tuple[np.ndarray, str]:
        again, why = [], ""
        for place, item in zip(places, items, strict=True):
            ((action, result),) = item.items()
            status, error = result["status"], result.get("error", {})
            if self.marked and status in TAKEN:
                self.marks[int(place)] = (result["_seq_no"], result["_primary_term"])
            if status in TAKEN or (status == 404 and action == "delete" and not error):
                continue
            if status == CONFLICT:
                self.conflicts.add(int(place))
                continue
            kind, reason = error.get("type", ""), _reason(error)
            if kind == INDEX_GONE and self.newest not in (None, self._index(place)):
                self.lost.add(int(place))
                continue
            if status == 400 and _about_the_row(kind, reason):
                self.refused[int(place)] = f"{kind}: {reason}"
                continue
            again.append(place)
            words = f"index {self._index(place)}: HTTP {status} {kind}: {reason}"
            why = why or "; ".join([words, *filter(None, [ADVICE.get(kind)])])
        return np.array(again, dtype=places.dtype), why

    def _index(self, place: int) -> str:
        action = orjson.loads(self.lines[int(place)].as_py().partition("\n")[0])
        return str(next(iter(action.values()))["_index"])


def _together(lines: pa.LargeStringArray, places: np.ndarray) -> memoryview:
    chosen = lines if len(places) == len(lines) else lines.take(pa.array(places))
    ends = np.frombuffer(chosen.buffers()[1], np.int64)[chosen.offset :][: len(chosen) + 1]
    return memoryview(chosen.buffers()[2])[ends[0] : ends[-1]]


def _about_the_row(kind: str, reason: str) -> bool:
    return kind in ABOUT_THE_ROW or (kind == ILLEGAL and reason.startswith(ILLEGAL_ROW))


def _reason(error: dict[str, Any]) -> str:
    inner = error.get("caused_by", {}).get("reason")
    return f"{error.get('reason', '')}{f' ({inner})' if inner else ''}"
