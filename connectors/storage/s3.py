"""Whole objects of a bucket: written by one request or in parts, on the condition that nobody else
wrote meanwhile; an upload that fails leaves nothing behind."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.session import Session
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from connectors.storage.settings import S3Settings

ATTEMPTS = 4
CONNECTIONS = 32
SERVER_ERRORS = 500
COPY_BYTES = 1 << 20
SINGLE_BYTES = 64 << 20
PART_BYTES = 16 << 20
ANY_VERSION = "*"
"""As a version to replace or delete: any version, or none."""

_CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_ABSENT = frozenset({"NoSuchKey", "404"})
_BROKEN = (BotoCoreError, HTTPClientError, HTTPError)


class VersionConflict(Exception):
    """A file does not have the version that was to be replaced: another writer changed it, or this
    writer did and the answer was lost."""


class BucketError(OSError):
    """A bucket refused or failed: names the request and the answer."""


def endpoint_of(settings: S3Settings) -> str | None:
    """URL of an S3-compatible store; None for AWS."""
    named = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3")
    named = named or os.environ.get("AWS_ENDPOINT_URL")
    return named if not named or "://" in named else f"https://{named}"


@functools.cache
def _client(settings: S3Settings) -> Any:
    endpoint = endpoint_of(settings)
    config = Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.request_timeout_s,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": "path" if endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return Session().create_client(
        "s3", region_name=settings.region, endpoint_url=endpoint, config=config
    )


def forget_credentials() -> None:
    """Take credentials from the standard AWS sources anew at the next request."""
    _client.cache_clear()


@contextmanager
def _asking(replacing: bool = False) -> Iterator[None]:
    """Turn failures of a bucket into OSError, and refused conditions into VersionConflict; with
    `replacing`, an absent object is one too."""
    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in _CONFLICTS or (replacing and code in _ABSENT):
            raise VersionConflict(str(error)) from error
        if code in _ABSENT:
            raise FileNotFoundError(str(error)) from error
        if _status(error) < SERVER_ERRORS:  # fresh credentials may be accepted
            forget_credentials()
        raise BucketError(f"{code}: {error}") from error
    except _BROKEN as error:
        raise BucketError(str(error)) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _bucket_and_key(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}


def get(settings: S3Settings, path: str) -> tuple[bytes, str]:
    """An object and its version. Raises FileNotFoundError, BucketError."""
    with _asking():
        answer = _client(settings).get_object(**_bucket_and_key(path))
        return bytes(answer["Body"].read()), str(answer["ETag"])


def reach(settings: S3Settings, path: str) -> None:
    """Ask whether the bucket exists. Raises FileNotFoundError, BucketError."""
    with _asking():
        _client(settings).head_bucket(Bucket=path.partition("/")[0])


def version(settings: S3Settings, path: str) -> str | None:
    """The version (ETag) of an object; None without an object. Raises BucketError."""
    with suppress(FileNotFoundError), _asking():
        return str(_client(settings).head_object(**_bucket_and_key(path))["ETag"])
    return None


def put(settings: S3Settings, path: str, data: IO[bytes], replaced: str | None) -> str:
    """Write a whole file as an object in place of its version `replaced` (None: of no object;
    ANY_VERSION: of any or none); returns the new version. An object appears whole or not at all.

    Raises VersionConflict where the object has another version, BucketError.
    """
    size = data.seek(0, os.SEEK_END)
    data.seek(0)
    condition = _condition(replaced)
    if size > SINGLE_BYTES:
        return _put_in_parts(settings, path, data, condition)
    checksum = hashlib.md5(usedforsecurity=False)
    while piece := data.read(COPY_BYTES):
        checksum.update(piece)
    data.seek(0)
    with _asking(replacing=bool(condition)):
        answer = _client(settings).put_object(
            **_bucket_and_key(path), Body=data, ContentMD5=_text(checksum.digest()), **condition
        )
        return str(answer["ETag"])


def _condition(replaced: str | None) -> dict[str, str]:
    if replaced == ANY_VERSION:
        return {}
    return {"IfNoneMatch": "*"} if replaced is None else {"IfMatch": replaced}


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _put_in_parts(
    settings: S3Settings, path: str, data: IO[bytes], condition: dict[str, str]
) -> str:
    client, key = _client(settings), _bucket_and_key(path)
    with _asking(replacing=bool(condition)):
        upload = client.create_multipart_upload(**key)["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            while piece := data.read(PART_BYTES):
                digest = hashlib.md5(piece, usedforsecurity=False).digest()
                number = len(parts) + 1
                answer = client.upload_part(
                    **key,
                    UploadId=upload,
                    PartNumber=number,
                    Body=piece,
                    ContentMD5=_text(digest),
                )
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            return _complete(client, key, upload, parts, condition)
        except BaseException:
            with suppress(ClientError, *_BROKEN):
                client.abort_multipart_upload(**key, UploadId=upload)
            raise


def _complete(
    client: Any,
    key: dict[str, str],
    upload: str,
    parts: list[dict[str, Any]],
    condition: dict[str, str],
) -> str:
    try:
        answer = client.complete_multipart_upload(
            **key, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
        )
        return str(answer["ETag"])
    except ClientError as error:
        if _code(error) != "NoSuchUpload":
            raise
        # the request may be a repetition: the store finished the upload, and its answer was lost
        stored = client.head_object(**key)["ETag"]
        if stored.strip('"') != _tag_of_parts(parts):
            raise
        return str(stored)


def _tag_of_parts(parts: list[dict[str, Any]]) -> str:
    """The version (ETag) of an object that was uploaded in these parts."""
    digests = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def delete(settings: S3Settings, path: str, deleted: str = ANY_VERSION) -> None:
    """Delete a version of an object; nothing happens when there is no object. Raises
    VersionConflict where the object has another version, BucketError."""
    with suppress(FileNotFoundError), _asking():
        _client(settings).delete_object(**_bucket_and_key(path), **_condition(deleted))


def abort_uploads(settings: S3Settings, path: str, older_than: timedelta) -> int:
    """Abort unfinished uploads in parts below a path that began `older_than` ago, such as those of
    killed processes; returns how many. Raises BucketError."""
    prefix, before, count = _bucket_and_key(path), datetime.now(UTC) - older_than, 0
    with _asking():
        client = _client(settings)
        pages = client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=prefix["Bucket"], Prefix=prefix["Key"]):
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] <= before:
                    which = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                    with suppress(client.exceptions.NoSuchUpload):
                        client.abort_multipart_upload(Bucket=prefix["Bucket"], **which)
                    count += 1
    return count
