"""A shell function with which a test's machine reads its metadata service, in Python."""

import textwrap

#: The beginning of a user data: `get PATH` prints the answer and its status; `without`: without a
#: token; `wait`: as soon as there is one.
IMDS = textwrap.dedent(
    """\
    #!/bin/bash
    cat > imds.py <<'PY'
    import os, sys, time, urllib.error, urllib.request
    def ask(path, method="GET", **headers):
        url = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + "/latest/" + path
        try:
            request = urllib.request.Request(url, method=method, headers=headers)
            with urllib.request.urlopen(request) as answer:
                return answer.read().decode(), answer.status
        except urllib.error.HTTPError as error:
            return error.read().decode(), error.code
    token, _ = ask("api/token", "PUT", **{"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    path, how = sys.argv[1], sys.argv[2:]
    answer, status = ask(path, **({} if "without" in how else {"X-aws-ec2-metadata-token": token}))
    while "wait" in how and status != 200:
        time.sleep(0.1)
        answer, status = ask(path, **{"X-aws-ec2-metadata-token": token})
    print(answer, status)
    PY
    get() { python3 imds.py "$@"; }
    """
)
