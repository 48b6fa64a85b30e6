"""Edges that all come back at once: a short run of ``make bench-reconnect``."""

import pytest

from bench.reconnect import VARIANTS, Fleet, is_good, measure

NODES = 5

pytestmark = [pytest.mark.broker, pytest.mark.redis]


@pytest.mark.timeout(300)
async def test_fleet_converges_soon_after_the_cloud_is_back_and_sends_no_more_than_it_must() -> (
    None
):
    result = await measure(
        Fleet(nodes=NODES, heartbeat_seconds=2.0, processes=1, watch_seconds=5.0)
    )
    assert is_good(result), result
    for variant in VARIANTS:
        for kind in (
            "digests_up",
            "digest_questions_down",
            "status_questions_down",
            "objects_down",
        ):
            least, found = int(result[f"{variant}_{kind}_least"]), int(result[f"{variant}_{kind}"])
            # what was under way when the cloud was killed may come again; a storm would be more
            assert least <= found <= 3 * least, (variant, kind, result)
        assert result[f"{variant}_resyncs_asked"] == 0


def test_fleet_that_takes_too_long_is_noticed() -> None:
    good = {f"{variant}_converged_s": 30.0 for variant in VARIANTS}
    assert is_good(good)
    for variant in VARIANTS:
        assert not is_good({**good, f"{variant}_converged_s": 30.1})
