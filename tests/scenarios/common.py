"""What several scenarios have in common."""

from __future__ import annotations

from bench.load.plan.arrivals import ClosedLoop
from bench.load.plan.workload import Bimodal, Fixed, LogNormal, Scaled, Workload

# A few long answers among short ones: short requests wait behind long ones.
HEAVY_TAIL = Workload(prompt=Fixed(64), output=Bimodal(short=8, long=80, long_share=0.15))
HEAVY_TAIL_WORDS = "15 % of answers have 80 tokens, the rest 8"

# As many users as the replicas run requests at once: nobody has to wait, unless some replicas
# get more requests than others.
ALL_BUSY = ClosedLoop(per_sequence=1)
ALL_BUSY_WORDS = "a closed loop keeps as many requests in flight as the replicas run at once"

# Requests so long that the KV cache of an engine on a GPU is full before it runs all the sequences
# that it may: what limits it is memory, which is what engines with KVCached share.
LONG = Scaled(
    Workload(prompt=Fixed(2048), output=LogNormal(median=400, sigma=0.7, low=64, high=1600))
)
LONG_WORDS = "prompts of 2,048 tokens; log-normal answers, 400 tokens in the median"

# Outside its peak a model has a tenth of the peak's rate. With three models a peak is 2.5 times the
# mean rate: at 60 % of capacity on average, 1.5 times the model's share of capacity. Capacity is
# that of engines whose KV caches are full, so that such a peak asks for 1.5 times a static cache.
PEAKS_LOAD = 0.6
PEAKS_LOW = 0.1
# What engines that share memory may gain, and what it may cost.
MEMORY_METRICS = (
    "scheduled_ttft_p50_s",
    "scheduled_ttft_p90_s",
    "tpot_p50_s",
    "tpot_p90_s",
    "goodput_rps",
    "output_tps",
    "error_rate",
)
