"""A room imports only from itself and from rooms above it (docs/architecture.md)."""

import pytest

from tests.repository.files import ROOMS, ROOT, imported

ENGINES = {"apache_beam", "pyflink"}
OUTSIDE = {"boto3", "botocore", "http", "requests", "s3fs", "socket", "subprocess", "urllib"}
NOT_FOR_PACKAGES = {"bench", "notebooks", "tests"}

FORBIDDEN = {room: set(ROOMS[place + 1 :]) | NOT_FOR_PACKAGES for place, room in enumerate(ROOMS)}
for engine_free in ("schemas", "transforms", "connectors"):
    FORBIDDEN[engine_free] |= ENGINES
for pure in ("schemas", "transforms"):
    FORBIDDEN[pure] |= OUTSIDE


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_above(room):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, name in imported(path)
        if name in FORBIDDEN[room]
    ]
    assert wrong == []


def test_every_room_has_code():
    assert [room for room in ROOMS if not any((ROOT / room).rglob("*.py"))] == []
