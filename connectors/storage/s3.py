"""Whole objects of a bucket, by requests whose every step is ours: one put or an upload in parts,
given up without a trace, and only where nobody else wrote meanwhile."""

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
"""Write whatever is there."""

_CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_ABSENT = frozenset({"NoSuchKey", "404"})
_BROKEN = (BotoCoreError, HTTPClientError, HTTPError)


class VersionConflict(Exception):
    """A file is not the version that was to be replaced: another wrote it, or this one's write was
    done and its answer lost."""


class BucketError(OSError):
    """A bucket did not do what was asked: names the request and the answer."""


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
    """Ask the standard AWS sources for credentials again at the next request."""
    _client.cache_clear()


@contextmanager
def _asking(replacing: bool = False) -> Iterator[None]:
    """Turn what a bucket does wrong into OSError, and what changed meanwhile into
    VersionConflict."""
    try:
        yield
    except ClientError as error:
        code = _code(error)
        if code in _CONFLICTS or (replacing and code in _ABSENT):
            raise VersionConflict(str(error)) from error
        if code in _ABSENT:
            raise FileNotFoundError(str(error)) from error
        if _status(error) < SERVER_ERRORS:  # fresh credentials may have another answer
            forget_credentials()
        raise BucketError(f"{code}: {error}") from error
    except _BROKEN as error:
        raise BucketError(str(error)) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _place(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}


def get(settings: S3Settings, path: str) -> tuple[bytes, str]:
    """An object and its version. Raises FileNotFoundError, BucketError."""
    with _asking():
        answer = _client(settings).get_object(**_place(path))
        return bytes(answer["Body"].read()), str(answer["ETag"])


def reach(settings: S3Settings, path: str) -> None:
    """Ask whether the bucket is there. Raises FileNotFoundError, BucketError."""
    with _asking():
        _client(settings).head_bucket(Bucket=path.partition("/")[0])


def version(settings: S3Settings, path: str) -> str | None:
    """The version of an object; None when there is none. Raises BucketError."""
    with suppress(FileNotFoundError), _asking():
        return str(_client(settings).head_object(**_place(path))["ETag"])
    return None


def put(settings: S3Settings, path: str, data: IO[bytes], replaced: str | None) -> str:
    """Write a whole file as an object in place of the version `replaced` (None: of nothing;
    ANY_VERSION: of whatever is there); returns its version. An object appears whole or not at all.

    Raises VersionConflict where another version is there, BucketError.
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
            **_place(path), Body=data, ContentMD5=_text(checksum.digest()), **condition
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
    client, place = _client(settings), _place(path)
    with _asking(replacing=bool(condition)):
        upload = client.create_multipart_upload(**place)["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            while piece := data.read(PART_BYTES):
                digest = hashlib.md5(piece, usedforsecurity=False).digest()
                number = len(parts) + 1
                answer = client.upload_part(
                    **place,
                    UploadId=upload,
                    PartNumber=number,
                    Body=piece,
                    ContentMD5=_text(digest),
                )
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            return _complete(client, place, upload, parts, condition)
        except BaseException:
            with suppress(ClientError, *_BROKEN):
                client.abort_multipart_upload(**place, UploadId=upload)
            raise


def _complete(
    client: Any,
    place: dict[str, str],
    upload: str,
    parts: list[dict[str, Any]],
    condition: dict[str, str],
) -> str:
    try:
        answer = client.complete_multipart_upload(
            **place, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
        )
        return str(answer["ETag"])
    except ClientError as error:
        if _code(error) != "NoSuchUpload":
            raise
        # asked again after its answer was lost, a store may not know the upload any more
        stored = client.head_object(**place)["ETag"]
        if stored.strip('"') != _tag_of_parts(parts):
            raise
        return str(stored)


def _tag_of_parts(parts: list[dict[str, Any]]) -> str:
    """The version of an object that was put together from parts."""
    digests = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def delete(settings: S3Settings, path: str, deleted: str = ANY_VERSION) -> None:
    """Delete a version of an object, or whatever is there; nothing happens when there is none.
    Raises VersionConflict where another version is there, BucketError."""
    with suppress(FileNotFoundError), _asking():
        _client(settings).delete_object(**_place(path), **_condition(deleted))


def abort_uploads(settings: S3Settings, path: str, older_than: timedelta) -> int:
    """Give up uploads in parts below a path that nobody finished for so long, such as those of
    killed processes; how many. Raises BucketError."""
    place, before, count = _place(path), datetime.now(UTC) - older_than, 0
    with _asking():
        client = _client(settings)
        pages = client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=place["Bucket"], Prefix=place["Key"]):
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] <= before:
                    which = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                    with suppress(client.exceptions.NoSuchUpload):
                        client.abort_multipart_upload(Bucket=place["Bucket"], **which)
                    count += 1
    return count
