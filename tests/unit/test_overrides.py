"""A flow's parameters are in params.yaml for its run, and the file keeps its comments."""

import os
from pathlib import Path

from pipelines.overrides import overridden

PARAMS = """# Every number.
seed: 0

train:  # the recipe
  steps: null       # of training
  batch_size: 4     # clips
"""


def test_comments_and_order_survive_and_the_file_returns_byte_for_byte(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS)
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    with overridden(tmp_path, {"train.steps": 7, "model.T_top": 1}, dict(os.environ)):
        notice, *lines = params.read_text().splitlines()
        assert notice.startswith("# For the run of process")
        assert lines == [
            *PARAMS.replace("steps: null       #", "steps: 7          #").splitlines(),
            "model:",
            "  T_top: 1",
        ]
    assert params.read_text() == PARAMS
