"""S3: versitygw 1.8, built once from pinned sources; objects are files in the data folder."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow.fs

from runners.artefacts.fetch import PINS, go_program, kept
from runners.stack.processes import LOOPBACK, require_free
from runners.stack.servers.one_process import OneProcess, serves

VERSION = "1.8.0"
PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
REGION = "us-east-1"
CREDENTIALS = """\
[default]
aws_access_key_id = {key}
aws_secret_access_key = {secret}
region = {region}
"""


@dataclass(frozen=True)
class S3(OneProcess):
    """An S3 server with its data in `folder`; it uses `port`."""

    port: int = 7070

    name: ClassVar[str] = "s3"
    span: ClassVar[int] = 1

    @property
    def address(self) -> str:
        """URL of the endpoint."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def credentials_file(self) -> Path:
        """Key and secret as AWS clients read them (`AWS_SHARED_CREDENTIALS_FILE`)."""
        return self.folder / "credentials"

    @property
    def environment(self) -> dict[str, str]:
        """Key, secret and region as AWS clients read them from their environment."""
        lines = self.credentials_file.read_text().splitlines()[1:]
        values = dict(line.split(" = ") for line in lines)
        return {
            "AWS_ACCESS_KEY_ID": values["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": values["aws_secret_access_key"],
            "AWS_REGION": values["region"],
        }

    def fetch(self) -> Path:
        """Folder with the server's program."""
        name = f"s3-versitygw-{VERSION}"
        return kept(self.cache, name, lambda folder: go_program(folder, PINS / "s3", PACKAGE))

    def start(self) -> None:
        """Start it, with the data of earlier starts; `ready` waits for it."""
        require_free(self.name, self.port, self.span)
        for name in ("data", "attributes"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not self.credentials_file.exists():
            self.credentials_file.touch(mode=0o600)
            key, secret = secrets.token_hex(8), secrets.token_hex(16)
            text = CREDENTIALS.format(key=key, secret=secret, region=REGION)
            self.credentials_file.write_text(text)
        credentials = self.environment
        command = [str(self.fetch() / "versitygw"), "--port", f"{LOOPBACK}:{self.port}"]
        command += ["--region", REGION, "--health", "/healthz", "--quiet"]
        command += [
            "posix",
            "--sidecar",
            str(self.folder / "attributes"),
            str(self.folder / "data"),
        ]
        root = {"ROOT_ACCESS_KEY": credentials["AWS_ACCESS_KEY_ID"]}
        root |= {"ROOT_SECRET_KEY": credentials["AWS_SECRET_ACCESS_KEY"]}
        self.process.start(command, root)

    def ready(self, timeout_s: float = 60) -> None:
        """Wait until it reports that it is healthy."""
        self.process.wait(lambda: serves(f"{self.address}/healthz"), timeout_s)

    def make_bucket(self, name: str) -> None:
        """Create a bucket; nothing happens where it exists."""
        credentials = self.environment
        store = pyarrow.fs.S3FileSystem(
            access_key=credentials["AWS_ACCESS_KEY_ID"],
            secret_key=credentials["AWS_SECRET_ACCESS_KEY"],
            region=REGION,
            endpoint_override=self.address.removeprefix("http://"),
            scheme="http",
            allow_bucket_creation=True,
        )
        store.create_dir(name)
