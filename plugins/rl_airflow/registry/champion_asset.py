"""The asset event for a new champion. Other DAGs can use it as their schedule.

Write `schedule=champion_asset("lunarlander_ppo")`. docs/examples/on_new_champion.py is a complete
example.
"""

from typing import Any

from airflow.sdk import Asset, AssetAlias, Context

#: The outlet of every task that may change a champion. An alias sends an event only if the champion
#: changed. A task with the asset itself as its outlet would send one at every success, even when a
#: night ends with KEEP.
CHAMPIONS = AssetAlias("nightshift_champions")


def champion_asset(experiment: str) -> Asset:
    """Return the Airflow asset of an experiment's champion.

    >>> champion_asset("lunarlander_ppo").name
    'champion_lunarlander_ppo'
    """
    return Asset(name=f"champion_{experiment}", uri=f"nightshift://champion/{experiment}")


def announce(context: Context, experiment: str, **extra: Any) -> None:
    """Send the event when the task succeeds. A cleared task that finds its own move sends it again.

    :param extra: data for consumers, as JSON: environment, version, digest, uri, move.
    """
    context["outlet_events"][CHAMPIONS].add(
        champion_asset(experiment), extra={"experiment": experiment, **extra}
    )
