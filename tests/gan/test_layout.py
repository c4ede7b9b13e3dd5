"""A file that does not follow the layout gives one error, which names the file and the problem."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan.data.layout import SHAPE
from gan.data.showers import open_showers
from gan.errors import InputError
from tests.support.sample_showers import target_of, write_raw

GOOD_CELLS = np.ones((2, *SHAPE), dtype=np.float32)
GOOD_ENERGIES = np.array([10.0, 500.0])
GOOD_TARGET = target_of(GOOD_ENERGIES)


@pytest.mark.parametrize(
    ("cells", "target", "message"),
    [
        (None, GOOD_TARGET, "has no data set 'ECAL'; it holds target"),
        (GOOD_CELLS, None, "has no data set 'target'; it holds ECAL"),
        (np.zeros((2, 51, 51, 25)), GOOD_TARGET, "shape (2, 51, 51, 25) and type float64"),
        (np.zeros((2, *SHAPE, 2)), GOOD_TARGET, "expected numbers of shape (events, 25, 25, 25)"),
        (np.zeros((2, *SHAPE), dtype="S1"), GOOD_TARGET, "type |S1"),
        (h5py.Empty("f4"), GOOD_TARGET, "shape None"),
        (GOOD_CELLS, GOOD_ENERGIES, "'target' has the shape (2,)"),
        (GOOD_CELLS, GOOD_TARGET[:, :1], "'target' has the shape (2, 1)"),
        (GOOD_CELLS, GOOD_TARGET[:1], "'ECAL' has 2 events and 'target' 1"),
        (GOOD_CELLS[:0], GOOD_TARGET[:0], "holds 0 events"),
    ],
)
def test_a_file_of_another_layout_is_an_input_error(tmp_path: Path, cells: Any, target: Any, message: str) -> None:
    path = write_raw(tmp_path / "bad.h5", cells, target)
    with pytest.raises(InputError) as caught:
        open_showers([path])
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_group_instead_of_cells_is_an_input_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("ECAL")
        file["target"] = GOOD_TARGET
    with pytest.raises(InputError, match="has no data set 'ECAL'"):
        open_showers([tmp_path / "a.h5"])


@pytest.mark.parametrize("content", [b"", b"not HDF5, but text\n" * 100])
def test_a_file_that_is_not_hdf5_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.h5 cannot be read .*expected a complete HDF5 file"):
        open_showers([path])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0, 0.999))
def test_a_truncated_file_is_an_input_error_when_opened(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.h5"
    write_raw(path, GOOD_CELLS, GOOD_TARGET)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"a\.h5 cannot be read"):
        open_showers([path])
