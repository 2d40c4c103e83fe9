"""Every method on tiny random instances: no interval contradicts another, no point is refused, no traceback.

By default some fixed instances; `--random-instances 10000`, or `5000:10000`, for the long form.
"""

from __future__ import annotations

import pytest

from tests.random_instances import Ends, check_all_methods

pytestmark = pytest.mark.filterwarnings("ignore:.*range in magnitude")  # as those of wide instances do
CHUNK = 10


def pytest_generate_tests(metafunc):
    if "chunk" in metafunc.fixturenames:
        first, last = metafunc.config.getoption("random_instances")
        chunks = [range(at, min(at + CHUNK, last)) for at in range(first, last, CHUNK)]
        metafunc.parametrize("chunk", chunks, ids=[f"{chunk.start}-{chunk.stop - 1}" for chunk in chunks])


def test_all_methods_agree(chunk):
    faults = []
    for seed in chunk:
        try:
            check_all_methods(seed)
        except Exception as error:
            faults.append(f"instance {seed}: {type(error).__name__}: {error}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(677, id="tasks that fill a server exactly"),
        pytest.param(3047, id="a master of Benders that came back to the same caches for ever"),
        pytest.param(11616, id="a master of Benders with costs of which no double has the digits that HiGHS asks for"),
        pytest.param(6569, id="a unit of cost for switches that cost more than everything else"),
        pytest.param(4715, id="switches of 2e10 in that unit"),
        pytest.param(3039, id="HiGHS's bound above the optimum by 0.3%, coefficients from 1 to 2e9"),
        pytest.param(7863, id="HiGHS's bound above the optimum by half, costs from 0.1 to 2e10"),
        pytest.param(5110, id="servers that were repaired with room counted in whole GHz"),
        pytest.param(50334, id="a master of Benders that HiGHS failed to solve from the basis of the last round"),
        pytest.param(10691, id="costs of 1e-6 that a master of Benders took for nothing"),
    ],
)
def test_instances_that_showed_a_fault(seed):
    check_all_methods(seed)


@pytest.mark.parametrize(("lower", "upper", "fine"), [(1.0, 1.0, True), (1.0001, 1.0, False), (0.9, 1.0, True)])
def test_a_bound_above_a_point_is_found(lower, upper, fine):
    """The comparison itself: a bound that is wrong by 1e-4 does not pass."""
    ends = Ends("made")
    ends.lower, ends.upper = {"a": 0.5, "b": lower}, {"c": upper, "d": 2.0}
    if fine:
        ends.compare()
    else:
        with pytest.raises(AssertionError, match="b's bound"):
            ends.compare()
