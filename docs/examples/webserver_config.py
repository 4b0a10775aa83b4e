"""Let people log in to a team's Airflow with the company's account (OpenID Connect).

docs/team.md says how to mount this file. The company's groups become roles, at each login.
"""

import os

from flask_appbuilder.const import AUTH_OAUTH

AUTH_TYPE = AUTH_OAUTH
#: A person without a group in the table gets nothing.
AUTH_USER_REGISTRATION = True
AUTH_USER_REGISTRATION_ROLE = "Public"
#: A person who leaves a group loses the role with the next login.
AUTH_ROLES_SYNC_AT_LOGIN = True
AUTH_ROLES_MAPPING = {
    "nightshift-viewers": ["Viewer", "Console"],
    "nightshift-operators": ["Viewer", "Console", "Operator"],
    "nightshift-approvers": ["Viewer", "Console", "Approver"],
    "nightshift-admins": ["Admin"],
}
OAUTH_PROVIDERS = [
    {
        "name": "company",
        "icon": "fa-key",
        "token_key": "access_token",
        "remote_app": {
            "client_id": os.environ["OIDC_CLIENT_ID"],
            "client_secret": os.environ["OIDC_CLIENT_SECRET"],
            # The address of the discovery document, e.g.
            # https://login.example.org/realms/company/.well-known/openid-configuration
            "server_metadata_url": os.environ["OIDC_METADATA_URL"],
            "client_kwargs": {"scope": "openid email profile groups"},
        },
    }
]
