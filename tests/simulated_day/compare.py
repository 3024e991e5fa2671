"""Facts in a lake against what a simulated fleet's `truth.json` says is really true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

COUNTS = ("in", "good", "dead", "duplicate", "late", "filtered", "samples", "duplicate_samples")
BY_HOUR = COUNTS[:-2]
"""Samples are compared in all only: the richer copy of an upload (M02) may lie in another hour."""
TYPES = ("log", "boot", "gps", "kinematic", "adas")
LIMIT = 20


def differences(lake: Path, truth_file: Path, ledger: dict[str, Any]) -> list[str]:
    """Every way in which facts and ledger are not what the truth says, at most some of a kind."""
    truth = json.loads(truth_file.read_text())
    found = list(_ledger(ledger, truth["ledger"]))
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    found += _dead(connection, lake, truth)
    found += _cases(connection, lake, truth)
    found += _minutes(connection, lake, truth["minutes"])
    found += _terminals(connection, lake, truth["samples_per_terminal"])
    return found


def _ledger(ledger: dict[str, Any], truth: dict[str, Any]) -> Iterator[str]:
    for name in COUNTS:
        if ledger["totals"][name] != truth["totals"][name]:
            yield f"ledger {name}: {ledger['totals'][name]}, truth {truth['totals'][name]}"
    ours = {(b["topic"], b["partition"], b["hour"]): b for b in ledger["by"]}
    real = {(b["topic"], b["partition"], b["hour"]): b for b in truth["by"]}
    for key in sorted(ours.keys() | real.keys())[:100_000]:
        one, other = ours.get(key), real.get(key)
        if one is None or other is None:
            yield f"ledger {key}: {one} against {other}"
        elif any(one[name] != other[name] for name in BY_HOUR):
            wrong = {n: (one[n], other[n]) for n in BY_HOUR if one[n] != other[n]}
            yield f"ledger {key}: {wrong}"
    names = {broken["name"] for broken in ledger["objects"]["broken"]}
    wanted = {broken["name"] for broken in truth["objects"]["broken"]}
    if names != wanted:
        yield f"broken objects {names} against {wanted}"


def _cases_of(truth: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for code, one in truth["misbehaviours"].items():
        for case in one["cases"]:
            yield code, case


def _dead(connection: Any, lake: Path, truth: dict[str, Any]) -> list[str]:
    rows = connection.execute(
        "select source_object, source_line, error_type from read_parquet(?)",
        [f"{lake}/dead_letters/*/*/*.parquet"],
    ).fetchall()
    ours = {(name, line): kind for name, line, kind in rows}
    wanted = {
        (case["object"], case["line"]): (code, case["kind"], case["error_type"])
        for code, case in _cases_of(truth)
        if case.get("error_type")
    }
    found = []
    for place, (code, kind, error) in wanted.items():
        if ours.get(place) != error:
            found.append(f"{code} {kind} {place}: dead letter {ours.get(place)}, truth {error}")
    for place, error in ours.items():
        if place not in wanted:
            found.append(f"dead letter {error} at {place} is not in the truth")
    return found[:LIMIT]


def _rows(connection: Any, lake: Path) -> dict[str, list[dict[str, Any]]]:
    """Telemetry rows (the columns cases speak of) by message_id."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for kind in TYPES:
        table = connection.execute(
            "select message_id, sample_idx, device_no, vehicle_id, event_time, time_source,"
            " quality_flags, binding_status, binding_version, object, line"
            " from read_parquet(?) where message_id in (select id from wanted)"
            " order by message_id, sample_idx",
            [f"{lake}/telemetry_{kind}/*/*/*.parquet"],
        )
        for row in table.to_arrow_table().to_pylist():
            by_id.setdefault(row["message_id"], []).append(row)
    return by_id


def _cases(connection: Any, lake: Path, truth: dict[str, Any]) -> list[str]:
    cases = [(code, case) for code, case in _cases_of(truth) if not case.get("error_type")]
    ids = sorted({case["message_id"] for _, case in cases if case.get("message_id")})
    connection.execute("create or replace table wanted(id text)")

    connection.register("ids", pa.table({"id": ids}))
    connection.execute("insert into wanted select id from ids")
    rows = _rows(connection, lake)
    found = []
    for code, case in cases:
        if not case.get("message_id"):
            continue
        problem = _case(case, rows.get(case["message_id"], []))
        if problem:
            found.append(f"{code} {case['kind']} {case['message_id']}: {problem}")
    kinds: dict[str, int] = {}
    kept = []
    for line in found:
        kind = " ".join(line.split()[:2])
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= 2:
            kept.append(line)
    return kept + [f"{kind}: {count} cases differ" for kind, count in kinds.items()]


def _case(case: dict[str, Any], rows: list[dict[str, Any]]) -> str | None:
    if not rows:
        return "no rows"
    flags = {flag for row in rows for flag in row["quality_flags"]}
    if "flags" in case and not set(case["flags"]) <= flags:
        return f"flags {sorted(flags)}, truth {case['flags']}"
    dated = [row for row in rows if "DEVICE_TIME_MISSING" not in row["quality_flags"]] or rows
    if "samples" in case and len(rows) != case["samples"]:
        return f"{len(rows)} samples, truth {case['samples']}"
    if "time_source" in case and any(row["time_source"] != case["time_source"] for row in dated):
        found = sorted({row["time_source"] for row in dated})
        return f"time_source {found}, truth {case['time_source']}"
    newest = max(dated, key=lambda row: (row["event_time"], row["sample_idx"]))
    for name in ("binding_status", "binding_version", "vehicle_id"):
        if name in case and newest[name] != case[name]:
            return f"{name} of the newest sample {newest[name]}, truth {case[name]}"
    if "event_time" in case and case["event_time"] is not None:
        first = min(row["event_time"] for row in dated)
        wanted = datetime.fromtimestamp(case["event_time"] / 1000, UTC)
        if abs((first - wanted).total_seconds()) > case.get("tolerance_s", 0):
            return f"event_time {first}, truth {wanted}"
    return None


_EXACT = ("n_uploads", "n_samples", "n_flagged", "speed_n", "odo_resets", "driving_s", "idle_s",
          "ignition_on_s", "harsh_brake_n", "harsh_accel_n", "harsh_turn_n", "overspeed_s",
          "adas_n", "odo_first_m", "odo_last_m", "first_time", "last_time")  # fmt: skip
_CLOSE = ("speed_min_kmh", "speed_max_kmh", "speed_sum_kmh", "speed_sumsq", "distance_gps_m",
          "aux_battery_min_v", "aux_battery_last_v", "fuel_last_pct", "soc_last_pct",
          "first_lat_deg", "first_lon_deg", "last_lat_deg", "last_lon_deg")  # fmt: skip


def _minutes(connection: Any, lake: Path, truth: dict[str, list[Any]]) -> list[str]:

    connection.register("truth_minutes", pa.table(truth))
    times = {"first_time", "last_time"}
    ours = ", ".join(
        f"epoch_ms({name}) as {name}" if name in times else name for name in (*_EXACT, *_CLOSE)
    )
    connection.execute(
        f"create or replace table ours as select vehicle_id, epoch_ms(minute) as minute, {ours}"
        " from read_parquet(?)",
        [f"{lake}/vehicle_minutes/*/*/*.parquet"],
    )
    join = "from ours o full join truth_minutes t using (vehicle_id, minute)"
    found = []
    lonely = connection.execute(
        f"select vehicle_id, minute, o.n_samples, t.n_samples {join}"
        " where o.n_samples is null or t.n_samples is null order by all limit 10"
    ).fetchall()
    found += [f"minute only on one side: {row}" for row in lonely]
    for name in (*_EXACT, *_CLOSE):
        if name not in truth:
            continue
        same = f"o.{name} is not distinct from t.{name}"
        if name in _CLOSE:
            same = (
                f"(o.{name} is null and t.{name} is null) or abs(o.{name} - t.{name})"
                f" <= 1e-5 * greatest(abs(o.{name}), abs(t.{name})) + 1e-6"
            )
        rows = connection.execute(
            f"select count(*) over (), vehicle_id, minute, o.{name}, t.{name} {join}"
            f" where o.n_samples is not null and t.n_samples is not null"
            f" and not coalesce(({same}), false) order by vehicle_id, minute limit 3"
        ).fetchall()
        found += [f"minutes {name}: {row[0]} differ, such as {row[1:]}" for row in rows]
    return found


def _terminals(connection: Any, lake: Path, by_type: dict[str, dict[str, int]]) -> list[str]:
    union = " union all ".join(
        f"select device_no from read_parquet('{lake}/telemetry_{kind}/*/*/*.parquet')"
        for kind in TYPES
    )
    rows = connection.execute(f"select device_no, count(*) from ({union}) group by all").fetchall()
    ours = dict(rows)
    truth = {device: sum(kinds.values()) for device, kinds in by_type.items()}
    keys = sorted(ours.keys() | truth.keys())
    wrong = [key for key in keys if ours.get(key, 0) != truth.get(key, 0)]
    return [f"samples of {k}: {ours.get(k)}, truth {truth.get(k)}" for k in wrong[:LIMIT]]
