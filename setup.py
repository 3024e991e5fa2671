"""Odograph: one distribution, several plainly named packages (docs/adr/0003)."""

from setuptools import setup

PACKAGES = [
    "schemas",
    "transforms",
    "connectors",
    "connectors.elasticsearch",
    "connectors.bigquery",
    "pipelines",
    "runners",
    "runners.flink",
    "runners.simulation",
    "runners.simulation.misbehaviours",
    "runners.stack",
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
        "connectors": ["sql/*.sql"],
        "schemas": ["avro/*.avsc"],
        "runners.flink": ["*.jar", "worker_site/*.py"],
        "runners.stack": ["pins/*", "pins/*/*"],
    },
    install_requires=CORE,
    extras_require={
        "beam": ["apache-beam==2.77.0"],
        "flink": ["apache-flink==2.2.1"],
        "notebook": NOTEBOOK,
        "test": TEST,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["odograph = runners.command:main"]},
)
