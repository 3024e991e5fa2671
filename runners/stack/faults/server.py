"""Fault proxies as a process of the stack; it follows changes of the YAML file of their rules:

    - {to: elasticsearch, method: POST, path: /_bulk, answer: {status: 503}, times: 3}
    - {to: s3, method: PUT, path: ^/lake/, lose_answer: true, first: 2, times: 1}

`python -m runners.stack.faults.server RULES NAME=PORT=URL ...`
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runners.stack.faults.http_proxy import FaultProxy
from runners.stack.faults.rules import (
    Answer,
    Delay,
    Fault,
    LoseAnswer,
    Reset,
    ResetInAnswer,
    ResetInRequest,
    Rule,
    Slow,
)

LOOK_S = 0.2


class BadRules(Exception):
    """The file of rules is not understood: names the file and the reason."""


class _InFile(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AnswerInFile(_InFile):
    """A `rules.Answer` in the file."""

    status: int = Field(ge=200, le=599)
    body: str = ""
    headers: dict[str, str] = Field(default_factory=dict)


class RuleInFile(_InFile):
    """A `rules.Rule` in the file; `to` names the proxy, the fields behind `times` are its
    faults."""

    to: str
    method: str = ""
    path: str = ""
    first: int = Field(1, ge=1)
    times: int | None = Field(None, ge=1)
    answer: AnswerInFile | None = None
    reset: bool = False
    reset_in_request: int | None = Field(None, ge=0)
    reset_in_answer: int | None = Field(None, ge=0)
    lose_answer: bool = False
    delay_s: float | None = Field(None, ge=0)
    bytes_per_s: int | None = Field(None, ge=1)

    def rule(self) -> Rule:
        """The rule for a proxy."""
        faults: list[Fault] = []
        if self.answer:
            faults.append(
                Answer(self.answer.status, self.answer.body.encode(), self.answer.headers)
            )
        if self.reset_in_request is not None:
            faults.append(ResetInRequest(self.reset_in_request))
        if self.reset_in_answer is not None:
            faults.append(ResetInAnswer(self.reset_in_answer))
        if self.delay_s is not None:
            faults.append(Delay(self.delay_s))
        if self.bytes_per_s is not None:
            faults.append(Slow(self.bytes_per_s))
        faults += [Reset()] * self.reset + [LoseAnswer()] * self.lose_answer
        return Rule(self.method, self.path, tuple(faults), self.first, self.times)


def read_rules(path: Path, names: set[str]) -> dict[str, list[Rule]]:
    """The rules of each proxy in `names`; none without a file. Raises BadRules."""
    try:
        entries = yaml.safe_load(path.read_text()) or []
        rules = [RuleInFile(**rule) for rule in entries]
    except FileNotFoundError:
        rules = []
    except (OSError, yaml.YAMLError, ValidationError, TypeError) as error:
        raise BadRules(f"{path}: {error}") from None
    unknown = sorted({rule.to for rule in rules} - names)
    if unknown:
        raise BadRules(f"{path}: to {unknown[0]}: there is no such proxy, but {sorted(names)}")
    return {name: [rule.rule() for rule in rules if rule.to == name] for name in names}


def serve(path: Path, proxies: dict[str, FaultProxy]) -> None:
    """Run the proxies for ever, with the rules in the file at `path`, which may change."""
    for name, proxy in proxies.items():
        print(
            f"{name}: {proxy.start().url} before {proxy.upstream.host}:{proxy.upstream.port}",
            flush=True,
        )
    seen: tuple[int, int] | None = (0, 0)
    while True:
        state = path.stat() if path.exists() else None
        now = (state.st_mtime_ns, state.st_size) if state else None
        if now != seen:
            seen = now
            try:
                for name, rules in read_rules(path, set(proxies)).items():
                    proxies[name].replace(rules)
                    print(f"{name}: {len(rules)} rules", flush=True)
            except BadRules as error:
                print(f"rules stay as they are: {error}", flush=True)
        time.sleep(LOOK_S)


if __name__ == "__main__":
    _proxies = {}
    for _word in sys.argv[2:]:
        _name, _port, _url = _word.split("=", 2)
        _proxies[_name] = FaultProxy(_url, int(_port))
    serve(Path(sys.argv[1]), _proxies)
