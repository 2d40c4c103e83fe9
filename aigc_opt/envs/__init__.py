"""Environments made from instances, for any learner that speaks Gymnasium.

>>> import gymnasium, aigc_opt.envs
>>> env = gymnasium.make("aigc_opt/TwoTimescaleCaching-v0", instance="instances/examples/two-timescale-process.json")

`aigc_opt/TwoTimescaleJoint-v0`, `...TwoTimescaleCaching-v0`, `...TwoTimescaleAllocation-v0`, `...Deployment-v0` and
`...Offloading-v0` are registered when this package is imported and Gymnasium is installed
(``pip install "aigc_opt[rl]"``); what does not need it works without.
"""

try:
    from gymnasium import register
except ImportError:
    pass
else:
    for name, place in (
        ("TwoTimescaleJoint", "two_timescale:JointEnv"),
        ("TwoTimescaleCaching", "two_timescale:CachingEnv"),
        ("TwoTimescaleAllocation", "two_timescale:AllocationEnv"),
        ("Deployment", "deployment:DeploymentEnv"),
        ("Offloading", "offloading:OffloadingEnv"),
    ):
        many = "aigc_opt.envs.vector:JointVectorEnv" if name == "TwoTimescaleJoint" else None
        register(id=f"aigc_opt/{name}-v0", entry_point=f"aigc_opt.envs.{place}", vector_entry_point=many)
