"""Odograph: one distribution, several plainly named packages (docs/adr/0003)."""

from setuptools import setup

PACKAGES = [
    "schemas",
    "transforms",
    "transforms.bindings",
    "transforms.decode",
    "transforms.encode",
    "transforms.facts",
    "transforms.live",
    "transforms.model",
    "transforms.terminal_rules",
    "transforms.upload_rules",
    "connectors",
    "connectors.archive",
    "connectors.kafka",
    "connectors.lake",
    "connectors.operations_db",
    "connectors.schema_registry",
    "connectors.sinks",
    "connectors.sinks.bigquery",
    "connectors.sinks.elasticsearch",
    "connectors.sinks.vehicle_state",
    "connectors.storage",
    "pipelines",
    "pipelines.backfill",
    "pipelines.live",
    "pipelines.live.flink",
    "pipelines.live.lake_sink",
    "runners",
    "runners.artefacts",
    "runners.backfill",
    "runners.cli",
    "runners.flink",
    "runners.simulation",
    "runners.simulation.misbehaviours",
    "runners.stack",
    "runners.stack.faults",
    "runners.stack.servers",
]

CORE = [
    "botocore>=1.40",
    "click>=8.4",
    "confluent-kafka>=2.14",
    "elasticsearch>=9.3,<10",
    "fastavro",
    "google-cloud-bigquery>=3.47",
    "google-cloud-bigquery-storage>=2.39",
    "numpy",
    "orjson",
    "polars>=2.1",
    "psutil",
    "psycopg[binary]>=3.2",
    "pyarrow>=16",
    "pydantic>=2",
    "pyruhvro==0.4.0",
    "pyyaml",
    "requests>=2.32",
    "rich",
    "tenacity>=9.2",
    "tzdata",
]

NOTEBOOK = [
    "duckdb",
    "ipykernel",
    "matplotlib",
    "nbclient",
    "nbconvert",
]

TEST = [
    "hypothesis",
    "pytest",
    "pytest-xdist",
]

DEV = [
    *NOTEBOOK,
    *TEST,
    "cryptography",
    "mypy",
    "ruff",
    "types-grpcio",
    "types-grpcio-status",
    "types-psutil",
    "types-PyYAML",
]

setup(
    name="odograph",
    version="0.1.0",
    description="Turns messages of vehicle terminals into vehicle facts, live and from archives",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=PACKAGES,
    package_data={
        "connectors.operations_db": ["*.sql"],
        "connectors.sinks.vehicle_state": ["*.sql"],
        "schemas": ["avro/*.avsc", "layouts.json"],
        "pipelines.live.flink": ["*.jar"],
        "runners.artefacts": ["pins/*", "pins/*/*"],
        "runners.flink": ["worker_site/*.py"],
    },
    install_requires=CORE,
    extras_require={
        "beam": ["apache-beam==2.77.0"],
        "flink": ["apache-flink==2.2.1"],
        "notebook": NOTEBOOK,
        "test": TEST,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["odograph = runners.cli.main:main"]},
)
