"""Parent of all processes; standard library only, so that there is nothing to crash on.

``clary up`` writes a plan (``Plan.to_json``) and becomes this program. What a role has to know of
it is re-exported here.
"""

from clary.supervisor.plan import EXIT_CONFIGURATION, Plan, Role

__all__ = ["EXIT_CONFIGURATION", "Plan", "Role"]
