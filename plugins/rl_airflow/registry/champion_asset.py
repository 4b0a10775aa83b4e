"""Tell Airflow that another policy is in service: an asset event, on which other DAGs may be
scheduled.

A consumer says `schedule=champion_asset("lunarlander_ppo")`; docs/examples/on_new_champion.py is a
whole one.
"""

from typing import Any

from airflow.sdk import Asset, AssetAlias, Context

#: The outlet of every task that may move a champion. Through an alias an event is sent only if the
#: champion moved: a task that names an asset itself as its outlet sends one whenever it succeeds,
#: also when a night ends with KEEP.
CHAMPIONS = AssetAlias("nightshift_champions")


def champion_asset(experiment: str) -> Asset:
    """The policy in service of an experiment, as Airflow knows it.

    >>> champion_asset("lunarlander_ppo").name
    'champion_lunarlander_ppo'
    """
    return Asset(name=f"champion_{experiment}", uri=f"nightshift://champion/{experiment}")


def announce(context: Context, experiment: str, **extra: Any) -> None:
    """Send the event when the task succeeds. A cleared task that finds its own move sends it again.

    :param extra: what a consumer needs to know, as JSON: environment, version, digest, uri, move.
    """
    context["outlet_events"][CHAMPIONS].add(
        champion_asset(experiment), extra={"experiment": experiment, **extra}
    )
