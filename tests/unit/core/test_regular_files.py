"""Names that no file can have are refused like absent files, not like a defect of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snellen.core.regular_files import open_regular, read_small


@pytest.mark.parametrize("name", ["a\0b", "half\ud800"], ids=["zero byte", "half a letter"])
@pytest.mark.parametrize("read", [open_regular, lambda path: read_small(path, 100)], ids=["open", "read"])
def test_name_that_no_file_can_have_is_an_os_error(read: Callable[[Path], object], name: str) -> None:
    with pytest.raises(OSError, match="its name is none that a file can have"):
        read(Path(name))
