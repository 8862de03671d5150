"""What was saved comes back, for the same work only, and nothing in it can run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from snellen.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "stage-1.safetensors"
    tensors = {
        "now/weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "now/steps": torch.tensor(7),
        "best/weight": torch.ones(2, dtype=torch.bfloat16),
    }
    save_checkpoint(path, Checkpoint(tensors, {"identity": "mine", "epochs": [{"loss": 0.1}], "none": None}))
    return path


def test_checkpoint_comes_back_bit_by_bit(tmp_path: Path) -> None:
    values = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    shared = {"a": values, "b": values}  # safetensors alone refuses shared memory
    save_checkpoint(tmp_path / "c", Checkpoint(shared, {"identity": "x", "loss": 0.1 + 0.2}))
    found = load_checkpoint(tmp_path / "c", "x")
    assert found is not None
    assert torch.equal(found.tensors["a"], values)
    assert torch.equal(found.tensors["b"], values)
    assert found.facts["loss"] == 0.1 + 0.2


def test_select_gives_a_part_with_its_types(saved: Path) -> None:
    found = load_checkpoint(saved, "mine")
    assert found is not None
    assert set(found.select("now")) == {"weight", "steps"}
    assert found.select("now")["steps"].dtype == torch.int64
    assert found.select("best")["weight"].dtype == torch.bfloat16
    assert found.facts["epochs"] == [{"loss": 0.1}]


def test_checkpoint_of_other_work_is_none(saved: Path) -> None:
    assert load_checkpoint(saved, "other") is None


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "nothing", "mine") is None


@pytest.mark.parametrize("keep", [0, 4, 30, 300])
def test_truncated_checkpoint_is_none(saved: Path, keep: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    saved.write_bytes(saved.read_bytes()[:keep])
    assert load_checkpoint(saved, "mine") is None
    assert f"{saved} is damaged" in caplog.text


def test_flipped_bit_anywhere_is_seen(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    whole = saved.read_bytes()
    for at in range(8, len(whole), 7):
        content = bytearray(whole)
        content[at] ^= 0x40
        saved.write_bytes(content)
        assert load_checkpoint(saved, "mine") is None, at
        assert "is damaged" in caplog.text
        caplog.clear()


def test_other_work_and_nothing_are_no_damage(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    load_checkpoint(saved, "other")
    load_checkpoint(saved.with_name("nothing"), "mine")
    assert caplog.text == ""


def test_pickled_checkpoint_is_none_and_never_run(tmp_path: Path) -> None:
    torch.save({"now/weight": torch.zeros(2)}, tmp_path / "c")
    assert load_checkpoint(tmp_path / "c", "mine") is None


def test_checkpoint_is_safetensors_and_no_pickle(saved: Path) -> None:
    content = saved.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["snellen"])["identity"] == "mine"
    assert set(header) == {"__metadata__", "now/weight", "now/steps", "best/weight"}
    assert not content.startswith((b"PK", b"\x80"))


def test_saving_again_replaces_the_whole(saved: Path) -> None:
    save_checkpoint(saved, Checkpoint({"now/other": torch.zeros(1)}, {"identity": "mine"}))
    found = load_checkpoint(saved, "mine")
    assert found is not None
    assert list(found.tensors) == ["now/other"]
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
