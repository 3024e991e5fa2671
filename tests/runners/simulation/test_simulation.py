"""The simulator: same arguments same bytes, a truth that adds up, and every misbehaviour there."""

import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
from collections import Counter
from datetime import datetime
from itertools import pairwise

import pytest

from runners.simulation.misbehaviours import MISBEHAVIOURS
from runners.simulation.simulator import Scenario, simulate
from tests.repository.files import ROOT

COUNTED = ("good", "dead", "duplicate", "late", "filtered")


def fingerprint(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lines_of(folder, topic="*"):
    topics = folder / "archive" / "topics"
    for path in sorted(topics.glob(f"message-{topic}/*/*/*/*/*+*+*.json.gz")):
        if "+9" not in path.name[-20:]:
            text = gzip.decompress(path.read_bytes())
            yield path, text.split(b"\n")[:-1]


def step_m(before, after):
    north = math.radians(after["lat"] - before["lat"])
    east = math.radians(after["lon"] - before["lon"]) * math.cos(math.radians(before["lat"]))
    return 6_371_008.8 * math.hypot(north, east)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    out = tmp_path_factory.mktemp("calm")
    start = datetime.fromisoformat("2024-01-15T08:00+09:00")
    simulate(out, Scenario(vehicles=12, hours=2, seed=5, start=start))
    return out, json.loads((out / "truth.json").read_bytes())


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    out = tmp_path_factory.mktemp("spoiled")
    start = datetime.fromisoformat("2024-01-15T22:30+09:00")
    simulate(out, Scenario(vehicles=12, hours=3, seed=5, misbehave=frozenset({"all"}), start=start))
    return out, json.loads((out / "truth.json").read_bytes())


def test_same_arguments_write_the_same_bytes_whatever_the_hash_seed(tmp_path):
    program = (
        "import pathlib, sys; from runners.simulation.simulator import Scenario, simulate; "
        "simulate(pathlib.Path(sys.argv[1]), Scenario(8, 1.0, 3, frozenset({'all'})))"
    )
    for number in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": number, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program, str(tmp_path / number)]
        subprocess.run(command, check=True, env=environment)
    assert fingerprint(tmp_path / "1") == fingerprint(tmp_path / "2")


def test_another_seed_writes_another_day(tmp_path):
    simulate(tmp_path / "one", Scenario(2, 0.5, 1))
    simulate(tmp_path / "two", Scenario(2, 0.5, 2))
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")


@pytest.mark.parametrize("which", ["calm", "spoiled"])
def test_the_ledger_balances_and_counts_every_line_of_the_archive(which, request):
    out, truth = request.getfixturevalue(which)
    ledger = truth["ledger"]
    for row in [ledger["totals"], *ledger["by"]]:
        assert row["in"] == sum(row[name] for name in COUNTED)
    found = Counter()
    for path, lines in lines_of(out):
        topic, partition, _ = path.name.split("+")
        found[topic, int(partition), "".join(path.parts[-5:-1])] += len(lines)
    assert found == {(r["topic"], r["partition"], r["hour"]): r["in"] for r in ledger["by"]}
    rows = sum(sum(kinds.values()) for kinds in truth["samples_per_terminal"].values())
    assert rows == ledger["totals"]["samples"]


def test_a_calm_run_has_no_dead_letters_and_no_duplicates(calm):
    totals = calm[1]["ledger"]["totals"]
    assert (totals["dead"], totals["duplicate"], totals["duplicate_samples"]) == (0, 0, 0)
    assert sum(calm[1]["minutes"]["n_flagged"]) == 0


def test_names_tell_the_first_offset_and_offsets_have_no_holes(calm):
    spans = {}
    for path, lines in lines_of(calm[0]):
        topic, partition, rest = path.name.split("+")
        spans.setdefault((topic, partition), []).append((int(rest[:10]), len(lines)))
        assert len(lines) <= 2000
    for objects in spans.values():
        assert min(objects)[0] == 0
        assert len({first for first, _ in objects}) == len(objects)


def test_gps_distance_is_consistent_with_speed(calm):
    for _, lines in lines_of(calm[0], "gps"):
        for upload in map(json.loads, lines):
            path, told = upload["data"], 0.0
            for before, after in pairwise(path):
                told += (before["sp"] + after["sp"]) / 7.2
            metres = sum(map(step_m, path, path[1:]))
            assert metres == pytest.approx(told, rel=0.01, abs=3)


def test_the_minutes_hold_the_distance_of_the_samples(calm):
    driven = sum(
        sum(map(step_m, upload["data"], upload["data"][1:]))
        for _, lines in lines_of(calm[0], "gps")
        for upload in map(json.loads, lines)
    )
    assert sum(calm[1]["minutes"]["distance_gps_m"]) == pytest.approx(driven, rel=1e-3)


def test_the_cars_stay_around_seoul_and_drive_at_believable_speeds(calm):
    speeds = []
    for _, lines in lines_of(calm[0], "gps"):
        for upload in map(json.loads, lines):
            for sample in upload["data"]:
                assert math.hypot(sample["lat"] - 37.55, sample["lon"] - 126.99) < 0.6
                speeds.append(sample["sp"])
    assert max(speeds) < 133 and 10 < sum(speeds) / len(speeds) < 60


def test_some_terminals_move_to_another_vehicle(calm):
    out, truth = calm
    rows = (out / "device_binding.csv").read_text().splitlines()
    assert rows[0] == "device_no,vehicle_id,valid_from,valid_to,binding_version"
    moved = [device for device, n in Counter(r.split(",")[0] for r in rows[1:]).items() if n > 1]
    assert moved and sorted(moved) == sorted(swap["device_no"] for swap in truth["swaps"])


def test_every_key_of_the_schemas_is_sent_by_some_terminal(calm):
    sent = {}
    for path, lines in lines_of(calm[0]):
        for upload in map(json.loads, lines):
            kind = path.name.split("+")[0].removeprefix("message-")
            keys = sent.setdefault(kind, set(upload))
            keys |= set(upload)
            content = upload.get("d") or upload["data"][0]
            keys |= set(content)
    for kind in ("log", "gps", "kinematic", "adas"):
        schema = json.loads((ROOT / f"schemas/avro/message_{kind}.avsc").read_text())
        fields = [*schema["fields"]]
        for field in schema["fields"]:
            if field["name"] == "samples":
                fields += field["type"]["items"]["fields"]
        assert {field["sts"] for field in fields if "sts" in field} <= sent[kind]


@pytest.mark.parametrize("mis", sorted(MISBEHAVIOURS))
def test_each_misbehaviour_is_put_in_and_described(spoiled, mis):
    told = spoiled[1]["misbehaviours"][mis]
    assert told["uploads"] > 0 and told["cases"] and told["device_nos"]
    for case in told["cases"]:
        assert {"kind", "device_no"} <= set(case)
        assert "error_type" in case or "message_id" in case or "object" in case


@pytest.mark.parametrize("mis", ["M04", "M06", "M17", "M22"])
def test_a_misbehaviour_can_be_put_in_alone(tmp_path, mis):
    simulate(tmp_path, Scenario(4, 1.5, 9, frozenset({mis})))
    truth = json.loads((tmp_path / "truth.json").read_bytes())
    assert list(truth["misbehaviours"]) == [mis]
    assert truth["misbehaviours"][mis]["uploads"] > 0


def test_each_dead_letter_stands_where_the_truth_says(spoiled):
    out, truth = spoiled
    text = {
        str(path.relative_to(out / "archive" / "topics")): lines for path, lines in lines_of(out)
    }
    dead = [
        case
        for told in truth["misbehaviours"].values()
        for case in told["cases"]
        if "error_type" in case
    ]
    assert len(dead) == truth["ledger"]["totals"]["dead"]
    for case in dead:
        assert len(text[case["object"]][case["line"]]) == case["size"]


def test_upload_ids_follow_the_rule(spoiled):
    out, truth = spoiled
    text = {
        str(path.relative_to(out / "archive" / "topics")): lines for path, lines in lines_of(out)
    }
    for case in truth["misbehaviours"]["M03"]["cases"]:
        upload = json.loads(text[case["object"]][case["line"]])
        name = f"{upload['device_no']}|{upload['type']}|{upload['boot']}|{upload['seq']}"
        assert hashlib.sha256(name.encode()).hexdigest()[:32] == case["message_id"]
        assert case["event_time"] == min(sample["ts"] for sample in upload["data"])


def test_the_day_edge_is_met_where_the_run_holds_one(spoiled):
    kinds = Counter(case["kind"] for case in spoiled[1]["misbehaviours"]["M09"]["cases"])
    assert kinds["day_edge"] == 2


def test_clock_cases_keep_true_time_where_the_rules_can_find_it(spoiled):
    cases = spoiled[1]["misbehaviours"]["M07"]["cases"]
    assert {case["time_source"] for case in cases} == {"DEVICE_CORRECTED"}
    cases = spoiled[1]["misbehaviours"]["M05"]["cases"]
    sources = Counter((case["kind"], case["time_source"]) for case in cases)
    assert sources["with_uptime", "DEVICE_CORRECTED"]
    assert sources["with_uptime", "RECEIVED_FALLBACK"]
    assert sources["uptime_of_good_uploads", "DEVICE_CORRECTED"]
    assert not sources["without_uptime", "DEVICE_CORRECTED"]


def test_broken_objects_are_listed_and_there(spoiled):
    out, truth = spoiled
    broken = truth["objects"]["broken"]
    reasons = {"truncated gzip", "empty object", "not gzip", "wrong name"}
    assert {item["reason"] for item in broken} == reasons
    for item in broken:
        assert (out / "archive" / "topics" / item["name"]).exists()


def test_minutes_are_columns_of_one_length_without_repeated_keys(spoiled):
    minutes = spoiled[1]["minutes"]
    schema = json.loads((ROOT / "schemas/avro/vehicle_minute.avsc").read_text())
    assert set(minutes) == {field["name"] for field in schema["fields"]} - {"revision"}
    assert len({len(column) for column in minutes.values()}) == 1
    keys = list(zip(minutes["vehicle_id"], minutes["minute"], strict=True))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vehicles": 0},
        {"hours": 0},
        {"misbehave": frozenset({"M20"})},
        {"start": datetime(2024, 1, 1)},
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError):
        simulate(tmp_path, Scenario(**{"vehicles": 1, "hours": 1.0, "seed": 1} | wrong))
