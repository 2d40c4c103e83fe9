"""Pictures: every function takes Axes (or makes them) and returns them. Needs matplotlib, the extra ``plot``."""

from aigc_opt.plot.curves import curves, fitted_curves
from aigc_opt.plot.fronts import front
from aigc_opt.plot.maps import offloading_map
from aigc_opt.plot.policies import policy_gaps
from aigc_opt.plot.prices import prices
from aigc_opt.plot.slots import slot
from aigc_opt.plot.sweeps import sweep
from aigc_opt.plot.timelines import cache_timeline, deployment_timeline
from aigc_opt.plot.traces import convergence

__all__ = [
    "cache_timeline",
    "convergence",
    "curves",
    "deployment_timeline",
    "fitted_curves",
    "front",
    "offloading_map",
    "policy_gaps",
    "prices",
    "slot",
    "sweep",
]
