"""Hostile CSA lines: checksums, columns, hemispheres, clocks, garbage around the frame."""

from __future__ import annotations

from tests.bad_input.case import CSA_COLUMNS, NOT_JSON, Corpus, csa, csa_with

PLAIN = csa_with(1, "1.3")
BROKEN = {"TRUNCATED", "CHECKSUM"}


def add_csa(corpus: Corpus) -> None:
    _frames(corpus)
    _columns(corpus)
    _values(corpus)


def _frames(corpus: Corpus) -> None:
    corpus.dead("csa_alone", b"$CSA", "TRUNCATED")
    corpus.dead("csa_dollar", b"$", {"TRUNCATED"} | NOT_JSON)
    corpus.dead("csa_half_name", b"$CS", {"TRUNCATED"} | NOT_JSON)
    corpus.dead("csa_other_name", lambda d: csa(f"GPRMC,{d}"), {"TRUNCATED"} | NOT_JSON)
    corpus.dead("csa_no_checksum", lambda d: PLAIN(d)[:-3], "TRUNCATED")
    corpus.dead("csa_star_only", lambda d: PLAIN(d)[:-2], BROKEN)
    corpus.dead("csa_one_digit", lambda d: PLAIN(d)[:-1], BROKEN)
    corpus.dead("csa_letters_checksum", lambda d: PLAIN(d)[:-2] + b"ZZ", BROKEN)
    corpus.dead(
        "csa_wrong_checksum", lambda d: PLAIN(d).replace(b"0482134", b"0482135"), "CHECKSUM"
    )
    corpus.dead("csa_swapped_digit", lambda d: PLAIN(d)[:-2] + PLAIN(d)[-2:][::-1], "CHECKSUM")
    corpus.dead("csa_garbage_after", lambda d: PLAIN(d) + b"garbage", BROKEN)
    corpus.dead("csa_two_frames", lambda d: PLAIN(d) + PLAIN(d + "B"), BROKEN)
    corpus.dead("csa_nul_after", lambda d: PLAIN(d) + b"\0", BROKEN)
    corpus.dead("csa_two_stars", lambda d: PLAIN(d).replace(b"*", b"**"), BROKEN)
    corpus.dead("csa_not_utf8", lambda d: csa(PLAIN(d)[1:-3] + b"\xff"), BROKEN | {"BAD_ENCODING"})
    corpus.dead("csa_json_inside", lambda d: csa('CSA,{"device_no":"' + d + '"}'), "TRUNCATED")
    corpus.dead("csa_cut_column", lambda d: PLAIN(d)[:60], "TRUNCATED")
    corpus.dead(
        "csa_oversize", lambda d: csa(CSA_COLUMNS.format(phone=d) + "," * 300_000), "OVERSIZE"
    )
    corpus.either("csa_lower_checksum", lambda d: PLAIN(d)[:-2] + PLAIN(d)[-2:].lower())
    corpus.either("csa_space_before", lambda d: b" " + PLAIN(d))
    corpus.either("csa_lower_name", lambda d: csa(PLAIN(d)[1:-3].replace(b"CSA", b"csa")))


def _columns(corpus: Corpus) -> None:
    def columns(count: int) -> object:
        return lambda d: csa(",".join(CSA_COLUMNS.format(phone=d).split(",")[:count]))

    for count in (1, 2, 3, 4, 5, 10, 15):
        corpus.dead(f"csa_{count}_columns", columns(count), "TRUNCATED")
    corpus.fact(
        "csa_17_columns",
        lambda d: csa(CSA_COLUMNS.format(phone=d) + ",surplus"),
        flags="EXTRA_FIELDS",
    )
    corpus.fact(
        "csa_10000_columns",
        lambda d: csa(CSA_COLUMNS.format(phone=d) + ",1" * 9_984),
        flags="EXTRA_FIELDS",
    )
    corpus.fact(
        "csa_quote_in_surplus",
        lambda d: csa(CSA_COLUMNS.format(phone=d) + ',"a\\'),
        flags="EXTRA_FIELDS",
    )


def _values(corpus: Corpus) -> None:
    corpus.dead("csa_unknown_type", csa_with(3, "XYZ"), "UNKNOWN_TYPE")
    corpus.dead("csa_no_type", csa_with(3, ""), "UNKNOWN_TYPE")
    corpus.dead("csa_lower_type", csa_with(3, "log"), "UNKNOWN_TYPE")
    corpus.dead("csa_no_phone", csa_with(2, ""), "MISSING_DEVICE_NO")
    corpus.dead("csa_blank_phone", csa_with(2, "   "), "MISSING_DEVICE_NO")
    for name, stamp in {
        "empty": "", "letters": "abc", "month_13": "241315093012", "hour_25": "240115253012",
        "short": "2401150930", "long": "20240115093012", "february_30": "240230093012",
    }.items():  # fmt: skip
        corpus.dead(f"csa_time_{name}", csa_with(4, stamp), "NO_TIME")
    corpus.fact("csa_year_1970", csa_with(4, "700101000007"), flags="CLOCK_EPOCH")
    corpus.fact("csa_no_fix", csa_with(5, "V"))
    corpus.fact("csa_other_fix", csa_with(5, "Q"))
    wrong = {
        6: "99x", 7: "Q", 8: "999999.9", 9: "7", 10: "abc", 11: "--1", 12: "1e999",
        13: "NaN", 14: "ZZ", 15: "0x10",
    }  # fmt: skip
    for position, value in wrong.items():
        corpus.fact(f"csa_column_{position}_wrong", csa_with(position, value), flags="TYPE_INVALID")
    corpus.fact("csa_empty_columns", lambda d: csa(f"CSA,1.3,{d},LOG,240115093012" + "," * 11))
