"""The inside of an instance, and its end."""

import json
import textwrap
import time
from pathlib import Path

from local_aws.machines.bounds import outside
from local_aws.machines.loopback import loopback_address
from local_aws.machines.processes import find_marked
from tests.local_aws.conftest import LocalAwsUnderTest, allow, unique, until
from tests.local_aws.imds import IMDS


def test_an_instance_sees_nothing_of_the_hosts_environment(aws: LocalAwsUnderTest) -> None:
    """The instance has its own environment variables, and python3 is the machine image's."""
    machine = aws.launch("#!/bin/sh\nenv | sort\ncommand -v python3\necho done\nsleep 99\n")
    console = aws.await_console(machine, "done")
    names = {line.partition("=")[0] for line in console.splitlines() if "=" in line}
    assert names <= {
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "HOME",
        "LANG",
        "LOCAL_AWS_BOUNDS_LOG",
        "LOCAL_AWS_MACHINE",
        "LOCAL_AWS_POWER",
        "LOCAL_AWS_TWIN",
        "OLDPWD",
        "PATH",
        "PWD",
        "PYTHONPATH",
        "SHLVL",
        "TMPDIR",
        "_",
    }
    assert ".venv-" in console.splitlines()[-2]


def test_the_metadata_service_wants_a_token(aws: LocalAwsUnderTest) -> None:
    """With HttpTokens required, metadata can be read only with a token."""
    options = {"HttpTokens": "required", "InstanceMetadataTags": "enabled"}
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "colour", "Value": "green"}]}]
    script = IMDS + textwrap.dedent(
        """\
        echo "without a token $(get meta-data/instance-id without | grep -o '[0-9]*$')"
        for path in meta-data/instance-id meta-data/tags/instance/colour \\
          meta-data/instance-life-cycle meta-data/spot/instance-action \\
          meta-data/placement/region meta-data/instance-type; do get $path; done
        get dynamic/instance-identity/document
        echo done; sleep 99
        """
    )
    machine = aws.launch(
        script,
        MetadataOptions=options,
        TagSpecifications=tags,
        InstanceMarketOptions={"MarketType": "spot"},
    )
    lines = aws.await_console(machine, "done").splitlines()
    assert "without a token 401" in lines
    for line in (
        f"{machine} 200",
        "green 200",
        "spot 200",
        " 404",
        "eu-west-1 200",
        "c7i.large 200",
    ):
        assert line in lines, line
    assert '"accountId": "123456789012"' in "\n".join(lines)


def test_its_role_is_its_profiles_and_only_what_that_allows_works(aws: LocalAwsUnderTest) -> None:
    """boto3 finds the role's credentials, and a forbidden prefix is refused."""
    bucket = aws.bucket()
    profile = aws.instance_profile(allow("s3:PutObject", f"arn:aws:s3:::{bucket}/mine/*"))
    script = textwrap.dedent(
        f"""\
        #!/bin/sh
        exec python3 - <<'PY'
        import boto3
        print(boto3.client("sts").get_caller_identity()["Arn"])
        s3 = boto3.client("s3")
        s3.put_object(Bucket="{bucket}", Key="mine/x", Body=b"x")
        try:
            s3.put_object(Bucket="{bucket}", Key="theirs/x", Body=b"x")
        except Exception as error:
            print(type(error).__name__, "AccessDenied" in str(error))
        print("done", flush=True)
        PY
        """
    )
    machine = aws.launch(script, IamInstanceProfile={"Name": profile})
    console = aws.await_console(machine, "done")
    assert f"assumed-role/{profile}/{machine}" in console
    assert "AccessDenied True" in console


def test_a_role_that_does_not_trust_ec2_gives_no_credentials(aws: LocalAwsUnderTest) -> None:
    """An instance profile is not enough: the role's trust policy must name EC2."""
    name, iam = aws.service_role("lambda.amazonaws.com"), aws.client("iam")
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    machine = aws.launch(
        f"{IMDS}get meta-data/iam/security-credentials/{name}\necho done; sleep 99\n",
        IamInstanceProfile={"Name": name},
    )
    console = aws.await_console(machine, "done")
    assert "AssumeRoleUnauthorizedAccess" in console
    assert "SecretAccessKey" not in console


def test_shutting_down_inside_terminates_it(aws: LocalAwsUnderTest) -> None:
    """`shutdown -h now` in the user data terminates the instance with AWS's reason."""
    machine = aws.launch(
        "#!/bin/sh\necho hello\nshutdown -h now\nsleep 20\necho NOT REACHED\n",
        InstanceInitiatedShutdownBehavior="terminate",
    )
    ended = aws.await_state(machine, "terminated")
    assert ended["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert "NOT REACHED" not in aws.console(machine)


def test_the_dead_mans_timer_ends_it_and_can_be_cancelled(aws: LocalAwsUnderTest) -> None:
    """`shutdown -h +0` ends a hanging script; `shutdown -c` cancels a later shutdown."""
    hangs = aws.launch(
        "#!/bin/sh\nshutdown -h +0\nsleep 4713\n", InstanceInitiatedShutdownBehavior="terminate"
    )
    cancels = aws.launch(
        "#!/bin/sh\nshutdown -h +1\nshutdown -c\necho alive; sleep 99\n",
        InstanceInitiatedShutdownBehavior="terminate",
    )
    aws.await_state(hangs, "terminated")
    assert "scheduled in 1 min" in aws.await_console(cancels, "was cancelled")
    assert aws.instance(cancels)["State"]["Name"] == "running"


def test_the_end_of_the_user_data_does_not_end_the_instance(aws: LocalAwsUnderTest) -> None:
    """The machine continues as on EC2, and the console shows the exit status."""
    machine = aws.launch("#!/bin/sh\nexit 3\n")
    aws.await_console(machine, "exit status 3")
    assert aws.instance(machine)["State"]["Name"] == "running"


def test_terminating_kills_everything_that_ran_in_it(aws: LocalAwsUnderTest) -> None:
    """Processes that left the process group or ignore SIGTERM are killed, too."""
    machine = aws.launch(
        "#!/bin/bash\ntrap '' TERM\n(setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' "
        "&)\necho away\nwhile :; do sleep 1; done\n"
    )
    aws.await_console(machine, "away")
    assert len(find_marked("LOCAL_AWS_MACHINE", machine)) >= 2
    aws.client("ec2").terminate_instances(InstanceIds=[machine])
    aws.await_state(machine, "terminated")
    assert find_marked("LOCAL_AWS_MACHINE", machine) == []
    assert not (Path(aws.state) / "machines" / machine / "root").exists()


def test_a_terminated_machine_can_say_goodbye(aws: LocalAwsUnderTest) -> None:
    """SIGTERM comes first, and a handler has time to work for a second."""
    machine = aws.launch(
        "#!/bin/bash\ntrap 'sleep 1; echo goodbye; exit 0' TERM\necho ready\nwhile :; do sleep "
        "0.1; done\n"
    )
    aws.await_console(machine, "ready")
    aws.client("ec2").terminate_instances(InstanceIds=[machine])
    aws.await_state(machine, "terminated")
    assert "goodbye" in aws.console(machine)


def test_a_connection_beyond_this_machine_is_refused_and_reported(aws: LocalAwsUnderTest) -> None:
    """Python in an instance cannot connect to a public address, and `status` names the instance."""
    machine = aws.launch(
        "#!/bin/sh\npython3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 443), 5)' "
        "2>&1 | tail -1\necho done; sleep 99\n"
    )
    assert "Network is unreachable" in aws.await_console(machine, "done")
    tried = [o["address"] for o in aws.cli("status")["out_of_bounds"] if o["who"] == machine]
    assert tried == ["192.0.2.1:443"]


_REST = "00000000:00000000 00:00000000 00000000     0        0"
"""The columns of /proc/net/tcp between the state and the inode."""
_MAPPED = "0000000000000000FFFF0000"
"""The prefix of an IPv4 address in a table of IPv6."""
_LOOPBACK_6 = "00000000000000000000000001000000"
TCP = f"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:9AA7 00000000:0000 0A {_REST} 101 1 0000 100 0 0 10 0
   1: 0100007F:9AA7 0100007F:D7A2 01 {_REST} 102 1 0000 20 4 30 10 -1
   2: 020200C0:A3C2 0A3364C6:01BB 02 {_REST} 103 2 0000 100 0 0 10 -1
   3: 020200C0:A3C4 020200C0:1F90 01 {_REST} 104 1 0000 20 4 30 10 -1
   4: {_MAPPED}0100007F:B1F4 {_MAPPED}0100007F:9AA7 01 {_REST} 105 1 0 20 4 30 10 -1
   5: {_MAPPED}020200C0:B1F4 {_MAPPED}0A3364C6:01BB 01 {_REST} 106 1 0 20 4 30 10 -1
   6: {_LOOPBACK_6}:B1F4 {_LOOPBACK_6}:9AA7 01 {_REST} 107 1 0 20 4 30 10 -1
   7: 0508527F:9AA7 0908527F:B1F4 01 {_REST} 108 1 0 20 4 30 10 -1
"""


def test_the_kernels_tables_are_read_as_they_are() -> None:
    """Listeners, loopback and a host's own address are inside; mapped addresses can be outside.

    The addresses of two instances, 127.82.8.5 and 127.82.8.9, are inside.
    """
    found = [(c.address, c.inode) for c in outside(TCP.splitlines()[1:])]
    assert found == [("198.100.51.10:443", 103), ("198.100.51.10:443", 106)]


def test_a_program_that_is_not_python_is_caught_and_reported(aws: LocalAwsUnderTest) -> None:
    """The kernel's tables show the program. No packet leaves: it is killed before it sends."""
    machine = aws.launch(
        "#!/bin/sh\nbash -c 'exec 3<>/dev/udp/198.51.100.7/4444 || exit 9; read -t 60 <&3'\necho "
        "ended $?\nsleep 60\n"
    )
    routes = [row.split()[1:8:6] for row in Path("/proc/net/route").read_text().splitlines()[1:]]
    has_way_out = ["00000000", "00000000"] in routes
    caught = [{"who": machine, "address": "198.51.100.7:4444", "program": "bash"}]
    console = aws.await_console(machine, "ended")
    assert ("ended 137" if has_way_out else "ended 9") in console, (
        "killed, or refused by a kernel that knows no way out"
    )
    assert [o for o in aws.cli("status")["out_of_bounds"] if o["who"] == machine] == (
        caught if has_way_out else []
    )


def test_credentials_renew_before_they_end(aws: LocalAwsUnderTest) -> None:
    """Credentials expire in an hour, and stay the same until shortly before."""
    profile = aws.instance_profile()
    script = (
        f"{IMDS}get meta-data/iam/security-credentials/{profile}\nget "
        f"meta-data/iam/security-credentials/{profile}\necho done; sleep 99\n"
    )
    machine = aws.launch(script, IamInstanceProfile={"Name": profile})
    documents = [
        json.loads(part + "}")
        for part in aws.await_console(machine, "done").partition("boots\n")[2].split("} 200\n")[:2]
    ]
    assert documents[0]["AccessKeyId"] == documents[1]["AccessKeyId"]
    left = time.mktime(
        time.strptime(documents[0]["Expiration"], "%Y-%m-%dT%H:%M:%SZ")
    ) - time.mktime(time.gmtime())
    assert 3000 < left <= 3600


def test_spot_machines_and_user_data_survive_a_busy_host(aws: LocalAwsUnderTest) -> None:
    """Tags can be changed while a machine runs, and the machine sees the change."""
    mark = unique("mark")
    machine = aws.launch(
        f"{IMDS}while :; do get meta-data/tags/instance/mark; sleep 0.3; done\n",
        MetadataOptions={"InstanceMetadataTags": "enabled"},
    )
    aws.await_state(machine, "running")
    aws.client("ec2").create_tags(Resources=[machine], Tags=[{"Key": "mark", "Value": mark}])
    until(lambda: f"{mark} 200" in aws.console(machine), "the machine sees its new tag")


def test_each_instance_has_an_address_of_its_own_that_others_reach(aws: LocalAwsUnderTest) -> None:
    """An instance listens on the address that its metadata tells, and another one connects to it.

    EC2 reports an address of the VPC, as AWS does. Its last two numbers are the same.
    """
    listen = textwrap.dedent(
        """\
        address="$(get meta-data/local-ipv4 | cut -d' ' -f1)"
        get dynamic/instance-identity/document | grep privateIp
        python3 - "$address" <<'PY'
        import socket, sys
        server = socket.create_server((sys.argv[1], 0))
        print("listens on", *server.getsockname(), flush=True)
        connection, peer = server.accept()
        print("heard", connection.recv(99).decode(), "from", peer[0], flush=True)
        PY
        sleep 99
        """
    )
    first = aws.launch(IMDS + listen)
    console = aws.await_console(first, "listens on")
    address, port = console.partition("listens on ")[2].split()[:2]
    assert f'"privateIp": "{address}"' in console
    found = aws.client("ec2").describe_instances(InstanceIds=[first])
    private = found["Reservations"][0]["Instances"][0]["PrivateIpAddress"]
    assert address.startswith("127.")
    assert address != private
    assert address.split(".")[2:] == private.split(".")[2:]
    connect = f"""\
        address="$(get meta-data/local-ipv4 | cut -d' ' -f1)"
        python3 - "$address" <<'PY'
        import socket, sys
        with socket.create_connection(("{address}", {port}), 20, (sys.argv[1], 0)) as connection:
            connection.sendall(b"hello")
        print("called from", sys.argv[1], flush=True)
        PY
        sleep 99
        """
    second = aws.launch(IMDS + textwrap.dedent(connect))
    other = aws.await_console(second, "called from").partition("called from ")[2].split()[0]
    assert other != address
    assert f"heard hello from {other}" in aws.await_console(first, "heard")


def test_without_other_loopback_addresses_instances_share_one() -> None:
    """On a computer whose loopback has 127.0.0.1 alone, each instance gets that."""
    assert loopback_address("10.64.8.5", "a", lambda _: False) == "127.0.0.1"
    own = loopback_address("10.64.8.5", "a", lambda _: True)
    assert own.endswith(".8.5")
    assert own != loopback_address("10.64.8.6", "a", lambda _: True)
    assert own != loopback_address("10.64.8.5", "b", lambda _: True)
