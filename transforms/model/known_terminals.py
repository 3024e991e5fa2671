"""Which terminals are known: they restore leading zeros that a number has lost (M26)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WIDEST_DEVICE_NO = 32


@dataclass(frozen=True)
class KnownTerminals:
    """`is_known` maps texts to whether a binding names such a terminal. `by_phone` maps phone
    numbers of CSA terminals to their device_no; None where the phone number is the device_no."""

    is_known: Callable[[Sequence[str]], Sequence[bool]] = field(
        default=lambda texts: [False] * len(texts)
    )
    by_phone: dict[str, str] | None = None

    def restore_zeros(self, number: int) -> list[str]:
        """The known terminals that equal `number` but for leading zeros."""
        digits = str(number)
        candidates = [digits.zfill(width) for width in range(len(digits), WIDEST_DEVICE_NO + 1)]
        known = self.is_known(candidates)
        return [text for text, hit in zip(candidates, known, strict=True) if hit]
