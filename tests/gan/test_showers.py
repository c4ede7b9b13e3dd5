"""HDF5 files of showers: files of this and of other programs are read, and an unusable file gives a clear error."""

import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan.data.layout import CELL_CUT, SHAPE
from gan.data.showers import ShowerSet, open_showers
from gan.data.writing import ShowerWriter, pack, write_showers
from gan.errors import InputError
from tests.support.sample_showers import random_showers, target_of, write_raw

SIZES = (3, 5, 2)


@pytest.fixture(scope="module")
def three_files(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ShowerSet, np.ndarray, np.ndarray]]:
    """Three files: one of this project; one in float64 with another data set; one whose chunks hold parts of events."""
    folder = tmp_path_factory.mktemp("three")
    cells, energies = random_showers(sum(SIZES))
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    write_showers(folder / "EleEscan_1_1.h5", cells[parts[0]], energies[parts[0]], {})
    wide = np.concatenate([target_of(energies[parts[1]]), np.full((SIZES[1], 2), -1.0)], axis=1)
    write_raw(folder / "EleEscan_1_2.h5", cells[parts[1]].astype(np.float64), wide)
    with h5py.File(folder / "EleEscan_1_2.h5", "a") as file:
        file["HCAL"] = np.zeros((SIZES[1], 5, 5, 60))
    last = cells[parts[2]][..., np.newaxis]
    write_raw(folder / "EleEscan_1_10.h5", last, target_of(energies[parts[2]]), chunks=(2, 5, 5, 25, 1))
    with open_showers([str(folder / "*.h5")]) as showers:
        yield showers, cells, energies


def test_files_come_in_natural_order(three_files: tuple[ShowerSet, np.ndarray, np.ndarray]) -> None:
    showers, _, energies = three_files
    assert [file.path.name for file in showers.files] == [
        "EleEscan_1_1.h5",
        "EleEscan_1_2.h5",
        "EleEscan_1_10.h5",
    ]
    assert tuple(file.events for file in showers.files) == SIZES
    assert showers.events == sum(SIZES)
    assert np.array_equal(showers.energies(), energies)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(st.integers(0, sum(SIZES) - 1), max_size=15))
def test_any_events_are_read_in_the_given_order(
    three_files: tuple[ShowerSet, np.ndarray, np.ndarray], events: list[int]
) -> None:
    showers, cells, energies = three_files
    read_cells, read_energies = showers.read(events)
    assert read_cells.dtype == read_energies.dtype == np.float32
    assert read_cells.shape == (len(events), *SHAPE)
    index = np.array(events, dtype=int)
    assert np.array_equal(read_cells, cells[index])
    assert np.array_equal(read_energies, energies[index])


@pytest.mark.parametrize("event", [-1, sum(SIZES)])
def test_an_event_that_does_not_exist_is_an_index_error(
    three_files: tuple[ShowerSet, np.ndarray, np.ndarray], event: int
) -> None:
    with pytest.raises(IndexError, match=f"0 to {sum(SIZES) - 1}"):
        three_files[0].read([0, event])


def test_reads_from_two_threads_and_after_close(
    three_files: tuple[ShowerSet, np.ndarray, np.ndarray],
) -> None:
    showers, cells, _ = three_files
    showers.close()
    failures: list[int] = []

    def read(event: int) -> None:
        for _ in range(20):
            if not np.array_equal(showers.read([event])[0][0], cells[event]):
                failures.append(event)

    threads = [threading.Thread(target=read, args=(event,)) for event in (1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    showers.close()
    assert np.array_equal(showers.read([4])[0][0], cells[4])


def test_a_read_does_not_touch_other_events(tmp_path: Path) -> None:
    """The other events are damaged, and the read works anyway."""
    cells, energies = random_showers(4)
    path = tmp_path / "a.h5"
    write_showers(path, cells, energies, {})
    damage(path, [0, 3])
    with open_showers([path]) as showers:
        assert np.array_equal(showers.read([2, 1])[0], cells[[2, 1]])
        with pytest.raises(InputError, match=r"a\.h5 cannot be read"):
            showers.read([3])


def damage(path: Path, events: list[int]) -> None:
    """Overwrite stored bytes of these events."""
    with h5py.File(path) as file:
        places = [file["ECAL"].id.get_chunk_info_by_coord((event, 0, 0, 0)).byte_offset for event in events]
    with path.open("r+b") as raw:
        for place in places:
            raw.seek(place + 100)
            raw.write(b"\xa5" * 200)


def test_the_layout_of_a_written_file(tmp_path: Path) -> None:
    cells, energies = random_showers(3)
    path = tmp_path / "EleEscan_1_1.h5"
    write_showers(path, cells, energies, {"seed": 7, "generator": "test"})
    with h5py.File(path) as file:
        assert (file["ECAL"].shape, file["ECAL"].dtype) == ((3, *SHAPE), np.float32)
        assert file["ECAL"].chunks == (1, *SHAPE)
        assert np.array_equal(file["ECAL"][:], cells)
        assert file["target"][:, 0].tolist() == [11, 11, 11]
        assert np.array_equal(file["target"][:, 1], energies)
        assert (file.attrs["seed"], file.attrs["generator"]) == (7, "test")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_an_unfinished_file_never_appears_and_the_old_one_stays(tmp_path: Path) -> None:
    cells, energies = random_showers(2)
    path = tmp_path / "a.h5"
    write_showers(path, cells, energies, {})
    before = path.read_bytes()

    def fail() -> None:
        with ShowerWriter(path, 2, {}) as writer:
            writer.append(pack(cells[:1]), energies[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with pytest.raises(ValueError, match="0 of 2 events"), ShowerWriter(path, 2, {}):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]
    assert path.read_bytes() == before


def test_a_full_disk_is_an_input_error_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys; import numpy as np; from gan.data.writing import write_showers;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY));"
        "cells = np.random.default_rng(1).random((4, 25, 25, 25));"
        "write_showers(sys.argv[1], cells, np.full(4, 10.0), {})"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.h5")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "gan.data.writing.WriteError" in ended.stderr
    assert "a.h5 cannot be written" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_exist_is_an_input_error(tmp_path: Path) -> None:
    cells, energies = random_showers(1)
    with pytest.raises(InputError, match=r"nowhere/a\.h5 cannot be written"):
        write_showers(tmp_path / "nowhere" / "a.h5", cells, energies, {})


def test_paths_globs_and_home_name_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    cells, energies = random_showers(1)
    for name in ("a.h5", "b[1].h5", "deep/er/c.h5"):
        write_showers(tmp_path / name, cells, energies, {})
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    showers = open_showers(["~/*.h5", tmp_path / "a.h5", str(tmp_path / "b[1].h5"), f"{tmp_path}/**/*.h5"])
    assert sorted(file.path.resolve().name for file in showers.files) == ["a.h5", "b[1].h5", "c.h5"]


@pytest.mark.parametrize("pattern", ["none*.h5", "none.h5", "."])
def test_a_pattern_without_files_is_named(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        open_showers([pattern])
    assert str(caught.value).startswith(f"'{pattern}' ")


def test_no_pattern_at_all_is_an_input_error() -> None:
    with pytest.raises(InputError, match="No data files were given"):
        open_showers([])


GOOD_CELLS, GOOD_ENERGIES = random_showers(2)
GOOD_TARGET = target_of(GOOD_ENERGIES)


def test_a_file_that_shrinks_after_it_was_opened_is_an_input_error(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.h5", GOOD_CELLS, GOOD_TARGET)
    showers = open_showers([path])
    path.unlink()
    write_raw(path, GOOD_CELLS[:1], GOOD_TARGET[:1])
    with pytest.raises(InputError, match=r"a\.h5 has 1 events; expected 2 as at the start"):
        showers.read([0, 1])
    showers.close()
    path.unlink()
    with pytest.raises(InputError, match=r"a\.h5 cannot be read"):
        showers.read([0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -5.0, 250_000.0, 1e300])
def test_an_energy_out_of_range_gives_an_error_with_file_event_and_value(tmp_path: Path, value: float) -> None:
    target = GOOD_TARGET.astype(np.float64)
    target[1, 1] = value
    write_showers(tmp_path / "a.h5", GOOD_CELLS, GOOD_ENERGIES, {})
    write_raw(tmp_path / "b.h5", GOOD_CELLS, target)
    with open_showers([tmp_path / "*.h5"]) as showers:
        for read in (showers.energies, lambda: showers.read([0, 1, 3])):
            with pytest.raises(InputError, match=r"b\.h5: event 1 .* has the energy .*if it is in MeV"):
                read()


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_cells_that_are_not_finite_give_an_error_with_file_and_event(tmp_path: Path, value: float) -> None:
    cells = np.repeat(GOOD_CELLS, 2, axis=0).astype(np.float64)
    cells[2, 3, 4, 5] = value
    path = write_raw(tmp_path / "a.h5", cells, np.repeat(GOOD_TARGET, 2, axis=0))
    with open_showers([path]) as showers:
        assert len(showers.read([0, 1, 3])[0]) == 3
        with pytest.raises(InputError, match=r"a\.h5: event 2 \(from 0\) has cells that are not finite"):
            showers.read([3, 2, 1])


def test_cells_below_the_cut_are_read_as_zero(tmp_path: Path) -> None:
    cells = np.zeros((1, *SHAPE))
    cells[0, 0, 0, :4] = [0.5 * CELL_CUT, -1.0, 2 * CELL_CUT, 0.3]
    path = write_raw(tmp_path / "a.h5", cells, GOOD_TARGET[:1])
    with open_showers([path]) as showers:
        read, _ = showers.read([0])
    np.testing.assert_array_equal(read[0, 0, 0, :4], np.array([0, 0, 2 * CELL_CUT, 0.3], np.float32))
