"""Requests to a schema registry: repeated during outages, with answers told from failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_exponential_jitter

from connectors.errors import BadSettings, DependencyFailed
from connectors.schema_registry.settings import RegistrySettings
from connectors.settings import secret

CONNECT_S, READ_S, WHOLE_S = 5.0, 10.0, 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
GROWING = wait_exponential_jitter(
    multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S, jitter=FIRST_PAUSE_S
)
MAX_RESPONSE = 8 << 20
MEDIA = "application/vnd.schemaregistry.v1+json"
NOT_FOUND = {40401, 40402, 40403}
_CHUNK = 64 << 10

OnWait = Callable[[float, str], None]
"""Called before a request is tried again, with the seconds until then and the reason."""


class Missing(Exception):
    """The registry has no such subject, version or schema; its message."""


class Refused(Exception):
    """The registry refuses what was sent, and will refuse it again; its message."""


class _Away(Exception):
    """No usable answer; trying again may help."""


def _silent(seconds: float, reason: str) -> None:
    """Does nothing."""


class RegistryClient:
    """A registry at `settings.url`. Each request is tried again with growing pauses for `give_up_s`
    seconds unless the registry itself answers: an outage must never look like an answer."""

    def __init__(self, settings: RegistrySettings) -> None:
        if not settings.url:
            raise BadSettings("registry.url is not set: give the address of Confluent's API")
        parts = urlsplit(settings.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadSettings(f"registry.url {settings.url!r}: give http(s)://host:port/path")
        if parts.username or parts.password:
            raise BadSettings("registry.url holds a user: give registry.user and registry.password")
        if settings.ca_file and not Path(settings.ca_file).is_file():
            raise BadSettings(f"registry.ca_file {settings.ca_file!r}: there is no such file")
        self.settings = settings
        self.shown = settings.url.rstrip("/")
        self.session = requests.Session()

    def get(self, path: str, give_up_s: float, on_wait: OnWait = _silent) -> Any:
        """The JSON at `path`; `on_wait` is called before each pause. Raises Missing,
        DependencyFailed."""
        return self._persist("GET", path, None, give_up_s, on_wait)

    def post(self, path: str, body: Any, give_up_s: float) -> Any:
        """The JSON answer to `body`. Raises Missing, Refused, DependencyFailed."""
        return self._persist("POST", path, body, give_up_s, _silent)

    def put(self, path: str, body: Any, give_up_s: float) -> Any:
        """As `post`."""
        return self._persist("PUT", path, body, give_up_s, _silent)

    def _persist(self, verb: str, path: str, body: Any, give_up_s: float, on_wait: OnWait) -> Any:
        def before_pause(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            pause = state.next_action.sleep if state.next_action else 0.0
            on_wait(pause, f"{self.shown}{path}: {error}")

        trying = Retrying(
            retry=retry_if_exception_type(_Away),
            wait=GROWING,
            stop=stop_after_delay(give_up_s),
            before_sleep=before_pause,
            reraise=True,
        )
        try:
            return trying(self._once, verb, path, body)
        except _Away as error:
            raise DependencyFailed(
                f"registry {self.shown} could not {verb} {path} for {give_up_s:g} s: {error};"
                " check registry.url, user, password and ca_file, and that it runs"
            ) from None

    def _once(self, verb: str, path: str, body: Any) -> Any:
        settings = self.settings
        password = secret(settings.password) if settings.password else ""
        sent = None if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + WHOLE_S
        try:
            with self.session.request(
                verb,
                f"{self.shown}{path}",
                data=sent,
                headers={"Accept": f"{MEDIA}, application/json", "Content-Type": MEDIA},
                auth=(settings.user, password) if settings.user else None,
                verify=settings.ca_file or True,
                timeout=(CONNECT_S, READ_S),
                stream=True,
            ) as response:
                return _understood(response.status_code, _bounded(response, deadline))
        except (requests.RequestException, OSError) as error:
            raise _Away(f"{type(error).__name__}: {error}") from None


def _bounded(response: requests.Response, deadline: float) -> bytes:
    data = bytearray()
    for chunk in response.iter_content(_CHUNK):
        data += chunk
        if len(data) > MAX_RESPONSE:
            raise _Away(f"an answer of more than {MAX_RESPONSE} bytes")
        if time.monotonic() > deadline:
            raise _Away(f"an answer that took more than {WHOLE_S:g} s")
    return bytes(data)


def _understood(status: int, data: bytes) -> Any:
    """The answer as JSON. A 404 means that something does not exist only with a code of Confluent:
    without it, it comes from a proxy or a wrong path. Raises Missing, Refused, _Away."""
    try:
        answer: Any = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if status == 200 and answer is not None:
        return answer
    code = answer.get("error_code") if isinstance(answer, dict) else None
    words = str(answer.get("message", "")) if isinstance(answer, dict) else ""
    if status == 404 and code in NOT_FOUND:
        raise Missing(words)
    if status in (409, 422) and code is not None:
        raise Refused(words)
    raise _Away(f"HTTP {status} {words or data[:200].decode(errors='replace')}".rstrip())
