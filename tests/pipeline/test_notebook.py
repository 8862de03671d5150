"""The notebook for Colab and Kaggle runs from top to bottom in a kernel of its own, on data that it may only read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from snellen.runs import open_run

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "own-folder.ipynb"
QUICK = ["preprocess.size=96", "augment.views=1", "evaluation.resamples=200", "training.stages.1.unfreeze=none",
         "data.copies=exact"]  # fmt: skip


def execute(folder: Path, **parameters: Any) -> dict[str, Any]:
    """The notebook as it stands after its cells ran; values of the parameters are set behind their own cells."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    text = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    tagged = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    assert tagged, "no cell says that it holds parameters"
    tagged[-1]["source"] = [*tagged[-1]["source"], "\n", text]
    path = folder / "trial.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from nbclient.cli import main; main()", "--inplace", str(path)],
        cwd=folder,
        env={**os.environ, "IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder / "jupyter")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(path.read_text(encoding="utf-8")))


def list_outputs(notebook: dict[str, Any]) -> str:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return "".join("".join(output.get("text", [])) for output in outputs)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    done = execute(tmp_path, OUT=str(tmp_path / "out"), SETTINGS=QUICK, PATIENTS=40)
    told = list_outputs(done)
    run = open_run(tmp_path / "out" / "run")
    for name in ("auc", "balanced_accuracy", "accuracy"):
        assert f"{name:<18} {run.evaluation.metrics[name]}\n" in told
    assert (tmp_path / "out" / "bundle.zip").is_file()
