"""Whether a machine has room for the engines of one arm, or of both at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.topology import Model
from bench.environments.docker.room import CPU_ENGINE_GIB, groups_that_fit
from bench.errors import UserError


def hub(gpus: int, replicas: int) -> Model:
    return Model("big", hub="org/weights", gpus=gpus, replicas=replicas)


TINY = Model("tiny", architecture="llama", replicas=2)


def test_eight_gpus_hold_one_arm_of_eight() -> None:
    models = [hub(1, 2), hub(1, 2), hub(2, 2)]
    assert groups_that_fit(models, 8, 0.0) == 1
    assert groups_that_fit(models, 16, 0.0) == 2


def test_too_few_gpus_are_refused_with_the_arithmetic() -> None:
    with pytest.raises(UserError) as caught:
        groups_that_fit([hub(1, 2), hub(2, 2)], 4, 1000.0)
    assert str(caught.value).startswith(
        "4 engines need 6 GPUs (big 2 x 1 + big 2 x 2), this machine has 4; pick fewer models"
    )


def test_too_little_memory_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(UserError) as caught:
        groups_that_fit([TINY], 8, 2.0)
    assert str(caught.value) == (
        "2 engines need 2.5 GiB of memory, 1.25 each, 2.0 GiB are available; pick fewer models "
        "with --models"
    )


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 64))
def test_so_many_arms_fit_and_no_more(gpus: int, replicas: int, there: int) -> None:
    needed = gpus * replicas
    if needed > there:
        with pytest.raises(UserError):
            groups_that_fit([hub(gpus, replicas)], there, 0.0)
        return
    rooms = groups_that_fit([hub(gpus, replicas)], there, 0.0)
    assert rooms * needed <= there < (rooms + 1) * needed


@given(st.floats(2 * CPU_ENGINE_GIB, 1000.0))
def test_on_cpus_memory_counts(free_gib: float) -> None:
    rooms = groups_that_fit([TINY], 0, free_gib)
    assert rooms * 2 * CPU_ENGINE_GIB <= free_gib < (rooms + 1) * 2 * CPU_ENGINE_GIB
