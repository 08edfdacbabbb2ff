"""What several scenarios have in common."""

from __future__ import annotations

from bench.load.plan.arrivals import ClosedLoop
from bench.load.plan.workload import Bimodal, Fixed, Workload

# A few long answers among short ones: short requests wait behind long ones.
HEAVY_TAIL = Workload(prompt=Fixed(64), output=Bimodal(short=8, long=80, long_share=0.15))
HEAVY_TAIL_WORDS = "15 % of answers have 80 tokens, the rest 8"

# As many users as the replicas run requests at once: nobody has to wait, unless some replicas
# get more requests than others.
ALL_BUSY = ClosedLoop(per_sequence=1)
ALL_BUSY_WORDS = "a closed loop keeps as many requests in flight as the replicas run at once"
