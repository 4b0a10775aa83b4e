"""Give the test process its own Airflow home and remove it at the end.

Import this module before Airflow.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = Path(tempfile.mkdtemp(prefix="nightshift-airflow-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
SETTINGS = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "SQLALCHEMY_SILENCE_UBER_WARNING": "1",
}
os.environ.update(SETTINGS)
