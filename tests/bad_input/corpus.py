"""The thousand hostile messages, always the same ones in the same order."""

from __future__ import annotations

import functools

from tests.bad_input.avro_cases import add_avro
from tests.bad_input.case import Case, Corpus
from tests.bad_input.csa_cases import add_csa
from tests.bad_input.json_cases import (
    add_bytes,
    add_lines,
    add_nesting,
    add_repeated_keys,
    add_texts,
    add_truncations,
)
from tests.bad_input.upload_cases import (
    add_envelopes,
    add_fields,
    add_payloads,
    add_records,
    add_sizes,
)

SIZE = 1_000


@functools.cache
def hostile_messages() -> tuple[Case, ...]:
    """Exactly SIZE cases; what the families leave over is filled with truncations."""
    corpus = Corpus()
    for add in (
        add_texts, add_bytes, add_lines, add_repeated_keys, add_nesting, add_envelopes,
        add_payloads, add_sizes, add_fields, add_csa, add_records, add_avro,
    ):  # fmt: skip
        add(corpus)
    add_truncations(corpus, SIZE - len(corpus.cases))
    return tuple(corpus.cases)
