"""Each route of the console, with a question that has an answer for the stored night."""

PERMITTED, FORBIDDEN = "retrain_cartpole_ppo", "retrain_lunarlander_ppo"
#: The routes of a DAG, with its id as `{dag}`.
OF_DAG = (
    "/nightshift/api/experiments/{dag}",
    "/nightshift/api/experiments/{dag}/run?run_id=night-2",
    "/nightshift/api/experiments/{dag}/compare?run_id=night-1&run_id=night-2",
    "/nightshift/api/experiments/{dag}/report?run_id=night-2",
    "/nightshift/api/experiments/{dag}/log?run_id=night-2&trial=seed-0&attempt=1",
)
HOME = "/nightshift/api/home"
OF_ALL = ("/nightshift/web/console.js", HOME)
ROUTES = (*OF_ALL, *(route.format(dag=PERMITTED) for route in OF_DAG))
