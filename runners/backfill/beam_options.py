"""Which options are Beam's, so that a typo in one of ours is not silently ignored."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from connectors.errors import BadArguments

OURS = (
    *("--archive", "--kafka", "--offsets", "--bindings", "--lake"),
    *("--types", "--from", "--to", "--config", "--ledger"),
)


class _Parser(_BeamArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadArguments(message)


def checked_options(args: Sequence[str]) -> PipelineOptions:
    """Beam's options. Raises BadArguments for a word that is no option of Beam's, or a value
    that is none of its option's."""
    parser = _Parser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    kinds: list[type[PipelineOptions]] = [PipelineOptions, *PipelineOptions.__subclasses__()]
    for options in kinds:
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(args))
    if unknown:
        word = unknown[0].partition("=")[0]
        near = difflib.get_close_matches(word, [*OURS, *parser._option_string_actions], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadArguments(f"{unknown[0]}: neither an option of odograph nor of Beam{hint}")
    return PipelineOptions(list(args), save_main_session=False)
