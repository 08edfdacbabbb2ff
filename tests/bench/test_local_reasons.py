"""The one line that says why a process died, from logs as they really look."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.environments.local.reasons import LIMIT, death, reason

ENGINE_LOG = """\
(APIServer pid=12) INFO 01-31 23:59:58 [model.py:692] Resolved architecture: LlamaForCausalLM
(EngineCore pid=34) ERROR 01-31 23:59:59 [core.py:1315] EngineCore failed to start.
(EngineCore pid=34) ERROR 01-31 23:59:59 [core.py:1315] Traceback (most recent call last):
(EngineCore pid=34) ERROR 01-31 23:59:59 [core.py:1315]     raise ValueError(
(EngineCore pid=34) ERROR 01-31 23:59:59 [core.py:1315] ValueError: No available memory
(APIServer pid=12) Traceback (most recent call last):
(APIServer pid=12) RuntimeError: Engine core initialization failed. See root cause above.
"""
PIP_LOG = """\
Looking in indexes: https://index.example/simple
ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu
ERROR: No matching distribution found for torch==2.13.0+cpu
WARNING: There was an error checking the latest version of pip.
"""
KILLED_LOG = """\
(APIServer pid=12) INFO 01-31 23:59:58 [loggers.py:315] Engine 000: Running: 3 reqs
(APIServer pid=12) WARNING 01-31 23:59:58 [arg_utils.py:1812] The global random seed is set to 0.
INFO:     Application startup complete.
"""
PYTHON_LOG = """\
Traceback (most recent call last):
  File "x.py", line 1, in <module>
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (99999) is greater than 4096
"""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (ENGINE_LOG, "ValueError: No available memory"),
        (PIP_LOG, "ERROR: No matching distribution found for torch==2.13.0+cpu"),
        ("lb: port 8080 is taken\n", "lb: port 8080 is taken"),
        ("", "its log tells no error"),
        (KILLED_LOG, "its log tells no error"),
        (
            PYTHON_LOG,
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig: "
            "Value error, User-specified max_model_len (99999) is greater than 4096",
        ),
    ],
)
def test_the_root_cause_is_told(tmp_path: Path, log: str, told: str) -> None:
    file = tmp_path / "log"
    file.write_text(log)
    assert reason(file) == told


def test_an_error_that_only_points_to_another_is_told_when_it_is_alone(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("RuntimeError: Engine core initialization failed. See root cause above.\n")
    assert reason(file).startswith("RuntimeError: Engine core")


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("ValueError: " + "x" * 5000)
    assert len(reason(file)) == LIMIT


def test_a_missing_log_is_told(tmp_path: Path) -> None:
    assert reason(tmp_path / "log") == "its log tells no error"


TORCH_LOG = "[W1123 19:00:36.711357472 utils.cpp:68] Warning: NUMA binding: strictly bound.\n"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (ENGINE_LOG, "ValueError: No available memory"),
        (KILLED_LOG + TORCH_LOG, "no error in its log, so it was killed from outside"),
        ("", "no error in its log, so it was killed from outside"),
    ],
)
def test_what_ran_well_and_is_gone_died_of_an_error_or_was_killed(
    tmp_path: Path, log: str, told: str
) -> None:
    file = tmp_path / "log"
    file.write_text(log)
    assert death(file) == told
