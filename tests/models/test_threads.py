"""How many threads torch has while a browser paints."""

from __future__ import annotations

import pytest
import torch

from clipviz.models.threads import spare_core, with_spare_core


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_one_core_is_spared_where_there_is_another_also_when_the_work_fails(threads):
    seen = []

    @spare_core()
    def work():
        seen.append(torch.get_num_threads())
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert seen == [max(1, threads - 1)]
    assert torch.get_num_threads() == threads


def test_between_two_steps_torch_has_all_its_threads(threads):
    def steps():
        for _ in range(3):
            yield torch.get_num_threads()

    seen = []
    for inside in with_spare_core(steps()):
        seen.append((inside, torch.get_num_threads()))
    assert seen == [(max(1, threads - 1), threads)] * 3
    assert torch.get_num_threads() == threads


def test_steps_that_nobody_waits_for_end_and_those_that_fail_leave_the_threads(threads):
    def steps():
        yield 1
        raise ValueError("broken")

    made = with_spare_core(steps())
    assert next(made) == 1
    with pytest.raises(ValueError, match="broken"):
        next(made)
    assert torch.get_num_threads() == threads
    left = with_spare_core(steps())
    next(left)
    left.close()
    assert torch.get_num_threads() == threads
