"""The one table of what the runner sets otherwise than compose: time-outs, shorter than production.

A test cannot wait five minutes for a dead worker. Nothing else differs but addresses, folders and
the identity on AWS, which :mod:`laptop.stack.one_host` names.
"""

#: Variable → value, with Airflow's default where compose sets none.
SHORT_TIMEOUTS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",  # 300
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",  # 10
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",  # 5
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",  # 30
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",  # 300
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",  # 5
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",  # 30
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",  # 300
}
#: Seconds that a stopped process gets before it is killed. Compose gives a worker 16 minutes.
STOP_GRACE_S = 20.0
