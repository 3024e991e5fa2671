"""Terminals whose clock or radio misleads: late bursts, wrong epochs, future, zones (M04 - M08)."""

from __future__ import annotations

from collections import defaultdict

from runners.simulation.misbehaviours.roles import Role, Run
from runners.simulation.uploads import Upload

HALF_HOUR_MS = 1_800_000
DAY_MS = 86_400_000
ZONE_TOLERANCE_MS = 90_000
WIDEST_ZONE = 28
SAME_OFFSET_MS = 5_000
FUTURE_MS = 300_000
EPOCHS_MS = (0, 315_964_800_000, 946_684_800_000)
YEAR_2099_MS = 4_070_908_800_000
BURST_STEP_MS = 150


def set_clock_wrong(upload: Upload, shift_ms: int) -> None:
    """Let the terminal's clock be `shift_ms` ahead of true time in this upload."""
    upload.device_shift = shift_ms
    if "ts" in upload.body:
        upload.body["ts"] += shift_ms
        return
    for sample in upload.body["data"]:
        sample["ts"] += shift_ms


class Burst(Role):
    """M04: out of reach for hours; what was kept arrives in one burst, once or `after` it ended."""

    mis = "M04"

    def __init__(self, kind: str, after_ms: int) -> None:
        super().__init__()
        self.kind, self._after = kind, after_ms

    def prepare(self, run: Run) -> None:
        """Choose the time out of reach: within each six hours, at most two and a half."""
        length = run.end_ms - run.start_ms
        first = run.start_ms + length // 10
        reach = min(9_000_000, int(length * 0.6))
        self._gaps = [(at, at + reach) for at in range(first, run.end_ms, 6 * 3_600_000)]
        self._sent: defaultdict[int, int] = defaultdict(int)

    def spoil(self, upload: Upload) -> None:
        """Delay an upload of a gap; a lateness near half hours looks like a zone error."""
        for start, end in self._gaps:
            if start <= upload.sent < end:
                upload.arrival = end + self._after + self._sent[start] * BURST_STEP_MS
                self._sent[start] += 1
                late = upload.latest - upload.received
                zone = round(late / HALF_HOUR_MS)
                near = abs(late - zone * HALF_HOUR_MS) <= ZONE_TOLERANCE_MS
                if near and 1 <= abs(zone) <= WIDEST_ZONE:
                    upload.flags.add("TZ_SUSPECT")
                self.note(upload, late_s=-late // 1000)


class WrongEpoch(Role):
    """M05: after a boot the clock stands near an epoch until the first fix."""

    mis = "M05"
    held = True
    BOOT_EVERY_MS = 900_000
    SYNC_MS = 240_000

    def __init__(self, kind: str, uptime: str) -> None:
        super().__init__()
        self.kind, self._uptime = kind, uptime

    def prepare(self, run: Run) -> None:
        """Plan a boot each quarter of an hour; every fourth never gets the time."""
        self.terminal.sends_uptime = self._uptime != "never"
        for at in range(run.start_ms + 300_000, run.end_ms - 60_000, self.BOOT_EVERY_MS):
            self.add_boot(at, {"rsn": "COLD", "rtc": False, "pend": 2})
        self._boots: dict[int, tuple[int, int]] = {}
        self._uploads: list[tuple[Upload, int | None]] = []

    def spoil(self, upload: Upload) -> None:
        """Give early uploads of a boot the epoch's time."""
        if upload.kind == "boot":
            number = len(self._boots)
            sync = DAY_MS if number % 4 == 3 else self.SYNC_MS
            self._boots[upload.boot] = (EPOCHS_MS[number % 3], upload.booted + sync)
        if upload.boot in self._boots:
            epoch, sync = self._boots[upload.boot]
            if upload.latest < sync:
                set_clock_wrong(upload, epoch - upload.booted)
                upload.flags.add("CLOCK_EPOCH")
                if self._uptime == "good uploads only":
                    del upload.body["up"]
                self.note(upload)
        self._uploads.append((upload, upload.body.get("up")))

    def settle(self) -> list[Upload]:
        """Date the early uploads by the earliest good one of the same boot."""
        booted: dict[int, int] = {}
        order = sorted(self._uploads, key=lambda item: (item[0].received, item[0].seq))
        for upload, uptime in order:
            if not upload.device_shift and uptime is not None and upload.boot not in booted:
                booted[upload.boot] = upload.latest - uptime * 1000
        for upload, uptime in order:
            if not upload.device_shift:
                continue
            epoch = self._boots[upload.boot][0]
            device_time = upload.latest + upload.device_shift
            age = device_time - epoch if uptime is None else uptime * 1000
            at = booted.get(upload.boot, upload.received + DAY_MS) + age
            if at > upload.received + FUTURE_MS:
                upload.fallback = True
            else:
                upload.shift, upload.corrected = at - upload.latest, True
        return [upload for upload, _ in self._uploads]


class Ahead(Role):
    """M06: a stable clock more than two hours ahead."""

    mis = "M06"
    kind = "stable"
    held = True
    AHEAD_MS = 2 * 3_600_000 + 13 * 60_000 + 7_000

    def prepare(self, run: Run) -> None:
        """The clock is wrong for the whole run."""
        self._uploads: list[Upload] = []

    def spoil(self, upload: Upload) -> None:
        """Every upload is ahead by the same time."""
        set_clock_wrong(upload, self.AHEAD_MS)
        upload.flags.add("CLOCK_FUTURE")
        self.note(upload)
        self._uploads.append(upload)

    def settle(self) -> list[Upload]:
        """Cut runs of equal offset greedily; three and more are put right by their median."""
        order = sorted(self._uploads, key=lambda u: (u.received, u.boot, u.seq))
        ahead = [u.latest + u.device_shift - u.received for u in order]
        first = 0
        for after in range(1, len(order) + 1):
            run = ahead[first : after + 1]
            if after < len(order) and max(run) - min(run) < SAME_OFFSET_MS:
                continue
            self._correct(order[first:after], ahead[first:after])
            first = after
        return self._uploads

    def _correct(self, uploads: list[Upload], ahead: list[int]) -> None:
        median = sorted(ahead)[(len(ahead) - 1) // 2]
        for upload in uploads:
            if len(uploads) >= 3:
                upload.shift, upload.corrected = upload.device_shift - median, True
            else:
                upload.fallback = True


class Useless(Role):
    """M06: a clock in the future that nothing can put right."""

    mis = "M06"

    def __init__(self, kind: str, every: int) -> None:
        super().__init__()
        self.kind, self._every, self._count = kind, every, 0

    def spoil(self, upload: Upload) -> None:
        """Send every n-th upload from the future."""
        self._count += 1
        if self._count % self._every:
            return
        off_zone = 200_000 + self._count % 1400 * 1000
        ahead = {
            "unstable": (1 + self._count * 7 % 39) * HALF_HOUR_MS + off_zone,
            "beyond_24h": 30 * 3_600_000,
            "year_2099": YEAR_2099_MS - upload.sent + upload.sent % DAY_MS,
        }
        set_clock_wrong(upload, ahead[self.kind])
        upload.flags.add("CLOCK_FUTURE")
        upload.fallback = True
        self.note(upload)


class Constant(Role):
    """M07, M08: a constant offset the rules can recognise."""

    def __init__(self, mis: str, kind: str, shift_ms: int, flag: str) -> None:
        super().__init__()
        self.mis, self.kind, self._shift, self._flag = mis, kind, shift_ms, flag

    def spoil(self, upload: Upload) -> None:
        """Shift every upload; the true time comes out."""
        set_clock_wrong(upload, self._shift)
        upload.flags.add(self._flag)
        upload.corrected = True
        self.note(upload)


class Isolated(Role):
    """M08: single gps uploads nine hours ahead or one hour behind, good ones between."""

    mis = "M08"
    kind = "isolated"
    AHEAD_MS, BEHIND_MS = 9 * 3_600_000, -3_600_000 + 7_500

    def prepare(self, run: Run) -> None:
        """Nothing to plan."""
        self._count = 0

    def spoil(self, upload: Upload) -> None:
        """Too few neighbours to be put right: the next rules decide."""
        if upload.kind != "gps":
            return
        self._count += 1
        if self._count % 5:
            return
        ahead = self._count % 10 == 0
        set_clock_wrong(upload, self.AHEAD_MS if ahead else self.BEHIND_MS)
        upload.flags.add("TZ_SUSPECT")
        if ahead:
            upload.flags.add("CLOCK_FUTURE")
            upload.fallback = True
        else:
            upload.shift = self.BEHIND_MS
        self.note(upload, ahead_s=upload.device_shift // 1000)
