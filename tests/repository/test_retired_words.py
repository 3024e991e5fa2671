"""No text names a module, folder, class or function that has another name today.

Decisions (docs/adr) may: they tell of the time when they were taken.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.repository.files import ROOT, files

FOLDERS = """
    bench/contenders bench/live connectors/bigquery connectors/elasticsearch connectors/sql
    runners/flink/java runners/stack/pins tests/connectors/bigquery
    tests/connectors/elasticsearch tests/flink tests/hostile tests/house tests/live
    tests/oracle tests/servers tests/simulation tests/stack tests/truth
"""
"""Folders that are no more."""

MODULES = {
    "connectors": """
        archive_settings archive_write archive_write_object archive_write_partition
        archive_write_progress archive_write_store bindings blocks bucket cluster disk files
        holdings kafka_java kafka_lag kafka_read lake_compact lake_merged lake_read lake_settings
        operations operations_tables registration registry registry_http sink snapshot state
        state_arrays state_connection state_groups state_judged state_newest state_settings
        state_statements state_store tables topics
    """,
    "docs": """
        alerts archive backfill-on-flink bigquery cluster elasticsearch from-kafka-connect lake
        metrics permissions set-aside state
    """,
    "pipelines": """
        aggregate archive_job backfill_days backfill_flink backfill_stores batches blocks convert
        day_letters dossiers enrich graph job lake_block lake_job lake_minutes lake_objects
        lake_stages lake_units ledger orphans parcels phases records rows scan sink_stages stages
        steps store_rows store_stage stores world
    """,
    "runners": """
        alone backfill_command backfill_options beam_options bigquery_command command
        config_command database_command demo_vehicles elasticsearch_command flink_command
        lake_command lazy report request schemas_command screen simulate_command status_command
        stores_command tail_command topics_command
    """,
    "runners/flink": "backfill_main bounded cluster main plan submission",
    "runners/simulation": "formats loop",
    "runners/simulation/misbehaviours": "casting",
    "runners/stack": """
        artefacts bigquery bigquery_emulator command elasticsearch elasticsearch_parts
        fault_connection fault_proxies fault_rules fault_server flink grpc_faults http_wire java
        kafka one_process postgres registry s3
    """,
    "tests": "device_topics s3",
    "tests/connectors": """
        archive_support certificates database_support kafka_support killed_compaction relay
        state_support test_archive test_archive_write test_archive_write_kafka
        test_archive_write_races test_archive_write_s3 test_bindings test_files test_holdings
        test_kafka test_kafka_java test_kafka_lag test_kafka_read test_lake test_lake_compact
        test_operations test_registration test_registry test_s3 test_s3_faults test_sink_settings
        test_snapshot test_state_store test_state_store_faults test_topics
    """,
    "tests/pipelines": """
        killed lake_model lakes test_backfill_days test_backfill_kafka test_backfill_stores
        test_blocks test_convergence test_day_letters test_judge_within test_killed
        test_lake_block test_lake_objects test_memory test_phases test_schema_directory
        test_sink_stages test_world
    """,
    "tests/runners": """
        test_bigquery_command test_command test_database_command test_elasticsearch_command
        test_lake_command test_sink_command test_stores_command test_topics_command
    """,
    "tests/transforms": """
        row_model stream_model support test_bind test_clock test_decode test_decode_avro
        test_decode_csa test_decode_minutes test_dossier test_duplicates test_encode
        test_encode_avro test_facts test_history test_hours test_minutes test_packed test_quality
        test_rows test_said test_unroll test_vehicles
    """,
    "transforms": """
        arrays bind block_rows clock coerce container decode_avro decode_csa decode_json
        decode_minutes dossier duplicates encode_avro first_look flags history json_lines
        json_times judge minutes outcome packed quality raw register repair rows rules said settle
        terminals unroll uploads vehicles
    """,
}
"""Modules and documents that are no more, by the folder in which they were."""

JAVA_CLASSES = """
    Batch BatchTest BlockReader BlockWriter Blocks BlocksTest BlockTest Contributions
    ContributionsTest Dossiers DossiersTest Flushed History Memory Minutes MinutesTest Parts
    Unbatch UnbatchTest
"""

IDENTIFIERS = """
    AnswerSaid RuleSaid
    BadConfig Changed Interference Live Passing Said Told Unmeant World enroll parcel patiently
    told_plan world_of
    DEAD_LETTERS_TOPIC LATE_TOPIC MINUTES_TOPIC UNBOUND_TOPIC NOTHING_TOLD TOLD_ROWS register_rows
    connectors.archive.names.Block connectors.archive.names.Blocks
    connectors.archive.progress.Mark connectors.sinks.row_counts.bigquery_rows
    connectors.sinks.bigquery.append.DOUBTED connectors.sinks.bigquery.append.UNNAMED
    connectors.sinks.bigquery.client.Rest connectors.sinks.elasticsearch.vehicle_cache.Memory
    connectors.sinks.vehicle_state.columns.POSITION connectors.sinks.vehicle_state.columns.SEEN
    connectors.sinks.vehicle_state.newest.present
    connectors.sinks.row_counts.elasticsearch_documents connectors.sinks.row_counts.holdings
    connectors.sinks.row_counts.state_rows
    connectors.archive.progress.read_progress transforms.model.raw_messages.from_messages
    pipelines.backfill.day_load_dead_letters.tell pipelines.backfill.spec.Job
    runners.backfill.flink.Backfill runners.backfill.flink.plan runners.backfill.request.job_of
    runners.cli.backfill_options.named
    runners.backfill.lake_lock.alone runners.cli.options.at runners.cli.options.settings
    runners.cli.options.worker_python runners.cli.options.workers runners.cli.submit._live
    runners.flink.client.told runners.flink.live_job.OF_MINUTES runners.flink.live_job.Plan
    transforms.decode.avro_container.Block
    pipelines.live.flink.arrow_blocks.layout pipelines.live.flink.arrow_blocks.schema
    transforms.live.block_verdicts.alone transforms.live.first_verdict.alone
    transforms.live.first_verdict.REGISTERED transforms.live.first_verdict.TOLD
    transforms.live.first_verdict.lone_verdict transforms.live.first_verdict.registered
    transforms.terminal_rules.clock.Verdict transforms.terminal_rules.verdicts.REGISTERED
    connectors.kafka.bounded_read.Place read_places
    place_id told_from schemas.arrow.PLACE transforms.encode.read_vehicle_minutes.PLACE
    transforms.terminal_rules.verdicts.REGISTERED
    Parcels parcels_of read_register write_register REGISTER_BYTES_PER_JUDGEMENT spool_of
    wanted_types checked_archive checked_span stores_of of_every_engine
"""
"""Names in Python: everywhere, or those of one module."""

KEPT = {Path(__file__).resolve(), ROOT / "docs" / "adr"}


def _pattern(names: str, before: str = "", after: str = "") -> re.Pattern[str]:
    """Any of the names as a whole word behind `before`, without `after` behind it."""
    words = "|".join(map(re.escape, names.split()))
    return re.compile(rf"(?<![\w./-]){before}({words})(?![\w{after}-])")


MODULE_PATHS = {f"{folder}/{name}" for folder, names in MODULES.items() for name in names.split()}
MODULE_NAMES = {path.replace("/", ".") for path in MODULE_PATHS}
FOLDER_NAMES = FOLDERS.replace("/", ".")
IN_TEXTS = (
    _pattern(" ".join(sorted(MODULE_PATHS | MODULE_NAMES, reverse=True)), after="/"),
    _pattern(FOLDERS + FOLDER_NAMES),
    _pattern(JAVA_CLASSES, before=r"odograph\.flink\."),
)
JAVA_USED = _pattern(JAVA_CLASSES)
JAVA_TEXTS = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    for match in pattern.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1]


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _identifiers(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """Line and name of all that a module defines and uses; with the module, where it is known."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str() as source, names=names):
                for alias in names:
                    yield from ((node.lineno, name) for name in (alias.name, alias.asname) if name)
                    yield node.lineno, f"{source}.{alias.name}"
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield node.lineno, name
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, f"{module}.{name}"
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield node.lineno, f"{module}.{name}"


def _retired_in(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return
    for pattern in IN_TEXTS:
        yield from _matches(pattern, text)
    if path.suffix == ".java":
        yield from _matches(JAVA_USED, JAVA_TEXTS.sub(_blank, text))
    elif path.suffix == ".py":
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        retired = MODULE_NAMES | set(IDENTIFIERS.split())
        names = _identifiers(ast.parse(text), module)
        yield from ((line, name) for line, name in names if name in retired)


def test_no_file_uses_a_retired_name():
    places = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files()
        if KEPT.isdisjoint([path, *path.parents])
        for line, name in sorted(set(_retired_in(path)))
    ]
    assert places == []
