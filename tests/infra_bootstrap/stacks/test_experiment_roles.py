"""Machines of one experiment reach their own keys, and with roles of their own no others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients
from infra_bootstrap.deployment.destroy import destroy
from infra_bootstrap.deployment.drift import find_drift
from infra_bootstrap.deployment.experiment_roles import delete_experiments, deploy_experiment
from infra_bootstrap.deployment.experiment_stacks import (
    experiment_stack_name,
    find_trainer_profile,
    list_experiment_stacks,
    short_name,
)
from infra_bootstrap.deployment.one_stack import StackOutcome
from infra_bootstrap.errors import AccessRefusedError, NotDeployedError, RoleNotReadyError
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.deployed import find_stack
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import (
    TrialId,
    buffer_key,
    checkpoint_key,
    curve_key,
    gang_key,
    head_key,
    heartbeat_key,
    policy_key,
    spec_key,
    trainer_log_key,
    version_prefix,
)
from tests.infra_bootstrap.accounts import Deployment, refusal
from tests.infra_bootstrap.stacks.test_bucket_writers import assert_refused
from tests.infra_bootstrap.stacks.test_least_privilege import dry_run, fleet, instance

#: Two experiments whose names are easily mixed up: one begins as the other does.
A, B = "maze_ppo", "maze_ppo2"
#: The roles of their machines.
ROLE_A, ROLE_B = f"nightshift-dev-trainer.{A}", f"nightshift-dev-trainer.{B}"
THE_OTHERS = ("launcher", "promoter", "reaper", "viewer", "deployer", "flow-logs", "trainer")


def keys_of(trial: TrialId) -> dict[str, str]:
    """Return a key of each kind that a machine writes."""
    return {
        "heartbeat": heartbeat_key(trial),
        "head": head_key(trial),
        "checkpoint": checkpoint_key(trial, 2048, 1, "state.npz"),
        "buffer": buffer_key(trial, "a" * 64),
        "policy": policy_key(trial, 2048, "onnx"),
        "policy's record": policy_key(trial, 2048, "json"),
        "log": trainer_log_key(trial, 1),
        "curve": curve_key(trial, 2048),
        "generation": gang_key(trial, 1, 1),
        "seat's heartbeat": heartbeat_key(trial.at_seat(1)),
    }


KINDS = sorted(keys_of(TrialId(B, "run", "seed-0")))
#: What no one can overwrite.
WRITTEN_ONCE = ("generation",)


@pytest.fixture(scope="module")
def _own_roles(running_account: Any, deployed: Deployment) -> Iterator[None]:
    """Roles of their own for both experiments, while the tests of this file run."""
    with running_account.reachable():
        for experiment in (A, B):
            deploy_experiment(running_account.clients(), "dev", experiment)
    yield
    with running_account.reachable():
        list(delete_experiments(running_account.clients(), "dev", "destroy"))
    assert deployed.account is running_account


@pytest.fixture
def own(_own_roles: None, dev: Deployment) -> Deployment:
    """The environment `dev`, with a role for each of the two experiments."""
    return dev


def become(dev: Deployment, role: str) -> Clients:
    """Return clients with the credentials of a machine's role."""
    return dev.account.clients(role)


# ---- what code on a machine of experiment A can do to experiment B
@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_with_its_own_role_writes_nothing_of_another_experiment(
    own: Deployment, kind: str
) -> None:
    """Neither B's heartbeats nor its head nor its policies can be written or read by A."""
    victim = keys_of(TrialId(B, "run", f"seed-{sha256_hex(kind.encode())[:6]}"))[kind]
    owner, thief = become(own, ROLE_B).s3, become(own, ROLE_A).s3
    owner.put_object(Bucket=own.bucket, Key=victim, Body=b"true", IfNoneMatch="*")
    etag = owner.head_object(Bucket=own.bucket, Key=victim)["ETag"]
    assert_refused(thief.put_object, Bucket=own.bucket, Key=victim, Body=b"forged", IfMatch=etag)
    assert_refused(
        thief.put_object, Bucket=own.bucket, Key=f"{victim}.new", Body=b"forged", IfNoneMatch="*"
    )
    assert_refused(thief.get_object, Bucket=own.bucket, Key=victim)
    assert_refused(thief.delete_object, Bucket=own.bucket, Key=victim)
    assert_refused(thief.copy_object, Bucket=own.bucket, Key=victim, CopySource=f"{own.bucket}/x")
    assert owner.get_object(Bucket=own.bucket, Key=victim)["Body"].read() == b"true"


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_with_its_own_role_does_its_work(own: Deployment, kind: str) -> None:
    """A writes and reads each of its own keys, so the refusals above can tell."""
    trial, s3 = TrialId(A, "run", f"seed-{sha256_hex(kind.encode())[:6]}"), become(own, ROLE_A).s3
    key = keys_of(trial)[kind]
    s3.put_object(Bucket=own.bucket, Key=key, Body=b"1", IfNoneMatch="*")
    assert s3.get_object(Bucket=own.bucket, Key=key)["Body"].read() == b"1"
    with pytest.raises(ClientError) as missing:
        s3.get_object(Bucket=own.bucket, Key=f"{key}.missing")
    assert refusal(missing.value)[0] == "NoSuchKey"


def test_a_machine_reads_its_own_specs_and_versions_only(own: Deployment) -> None:
    """A reads no spec and no version of B, but it reads its own."""
    writers = {spec_key: own.as_role("launcher"), version_prefix: own.as_role("promoter")}
    keys = {
        experiment: (
            spec_key(experiment, "read"),
            f"{version_prefix(experiment, 7)}parameters.safetensors",
        )
        for experiment in (A, B)
    }
    for spec, version in keys.values():
        writers[spec_key].s3.put_object(Bucket=own.bucket, Key=spec, Body=b"1", IfNoneMatch="*")
        writers[version_prefix].s3.put_object(
            Bucket=own.bucket, Key=version, Body=b"1", IfNoneMatch="*"
        )
    for key in keys[A]:
        assert become(own, ROLE_A).s3.get_object(Bucket=own.bucket, Key=key)["Body"].read() == b"1"
    for key in keys[B]:
        assert_refused(become(own, ROLE_A).s3.get_object, Bucket=own.bucket, Key=key)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WRITTEN_ONCE])
def test_machines_with_the_common_role_reach_each_others_keys(dev: Deployment, kind: str) -> None:
    """Without roles of their own, A's machine can overwrite what B's machine wrote.

    docs/aws-account.md says so. This is why an experiment can have a role of its own.
    """
    victim = keys_of(TrialId(B, "common", f"seed-{sha256_hex(kind.encode())[:6]}"))[kind]
    common = dev.as_role("trainer").s3
    common.put_object(Bucket=dev.bucket, Key=victim, Body=b"true", IfNoneMatch="*")
    etag = common.head_object(Bucket=dev.bucket, Key=victim)["ETag"]
    common.put_object(Bucket=dev.bucket, Key=victim, Body=b"forged", IfMatch=etag)
    assert common.get_object(Bucket=dev.bucket, Key=victim)["Body"].read() == b"forged"


@pytest.mark.parametrize(
    "key",
    [
        spec_key(A, "forged"),
        f"attempts/{A}/run/seed-0/0001.json",
        f"evaluations/{A}/run/gate/report.json",
        f"registry/{A}/champion.json",
        f"registry/{A}/history/000001.json",
        f"ledger/2026-11/{A}/run.json",
        f"artifacts/{'b' * 64}/evil.whl",
        f"{A}/anything",
    ],
)
def test_an_experiments_own_role_writes_no_other_class(own: Deployment, key: str) -> None:
    """A's machine cannot write plans, verdicts or the registry, not even of its experiment."""
    assert_refused(
        become(own, ROLE_A).s3.put_object, Bucket=own.bucket, Key=key, Body=b"1", IfNoneMatch="*"
    )


# ---- chains
CHAINS = [(role, target) for role in (ROLE_A, "trainer") for target in (*THE_OTHERS, ROLE_B)] + [
    (role, target)
    for role in (*THE_OTHERS[:-1], "airflow-worker")
    for target in (*THE_OTHERS, ROLE_A)
    if role != target
    and (role, target)
    not in {("airflow-worker", name) for name in ("launcher", "promoter", "reaper", "viewer")}
]


def full_name(role: str) -> str:
    """Return the full name of a role."""
    return role if "." in role or role == "airflow-worker" else f"nightshift-dev-{role}"


@pytest.mark.parametrize(("role", "target"), [pair for pair in CHAINS if pair[0] != pair[1]])
def test_no_chain_of_roles(own: Deployment, role: str, target: str) -> None:
    """No role becomes another, except Airflow's worker its four."""
    arn = f"arn:aws:iam::{own.account.account_id}:role/{full_name(target)}"
    with pytest.raises(AccessRefusedError):
        become(own, full_name(role)).assume(arn)


@pytest.mark.parametrize("through", ["launcher", "promoter", "reaper", "viewer"])
@pytest.mark.parametrize("target", ["launcher", "promoter", "deployer", ROLE_A])
def test_no_second_step_of_a_chain(own: Deployment, through: str, target: str) -> None:
    """What Airflow's worker becomes can become nothing more."""
    account = own.account.account_id
    first = own.as_role("airflow-worker").assume(
        f"arn:aws:iam::{account}:role/nightshift-dev-{through}"
    )
    with pytest.raises(AccessRefusedError):
        first.assume(f"arn:aws:iam::{account}:role/{full_name(target)}")


@pytest.mark.parametrize("role", [ROLE_A, "nightshift-dev-trainer"])
def test_a_machines_role_does_nothing_but_store(own: Deployment, role: str) -> None:
    """A machine starts no machine, passes no role, asks no function and changes no identity."""
    clients = become(own, role)
    for call, request in (
        (clients.ec2.create_fleet, fleet(own, **profile_of(ROLE_B))),
        (clients.ec2.run_instances, instance(own, **profile_of(ROLE_B))),
    ):
        assert dry_run(call, request) == "UnauthorizedOperation"
    assert_refused(
        clients.client("lambda").invoke, FunctionName=own.outputs.evaluator_alias_arn, Payload=b"{}"
    )
    document = json.dumps({"Version": "2012-10-17", "Statement": []})
    assert_refused(
        clients.iam.put_role_policy, RoleName=role, PolicyName="x", PolicyDocument=document
    )


# ---- which profiles the launcher may pass
def test_the_launcher_passes_an_experiments_own_profile(own: Deployment) -> None:
    """A fleet's override can name the profile of an experiment."""
    for call, request in (
        (own.as_role("launcher").ec2.create_fleet, fleet(own, **profile_of(ROLE_A))),
        (own.as_role("launcher").ec2.run_instances, instance(own, **profile_of(ROLE_A))),
    ):
        assert dry_run(call, request) == "DryRunOperation"


def profile_of(name: str) -> dict[str, Any]:
    """Return the member of a request that names a profile."""
    return {"IamInstanceProfile": {"Name": name}}


@pytest.mark.parametrize(
    "name",
    [
        "nightshift-dev-trainerx",
        "nightshift-dev-trainer-trainer",  # the common trainer of an environment "dev-trainer"
        "nightshift-dev-trainer-x.maze_ppo",  # an experiment's of an environment "dev-trainer-x"
        "nightshift-prod-trainer.maze_ppo",
        "x-nightshift-dev-trainer.maze_ppo",
    ],
)
@pytest.mark.parametrize("call", ["create_fleet", "run_instances"])
def test_the_launcher_passes_no_profile_with_a_similar_name(
    own: Deployment, name: str, call: str
) -> None:
    """The profiles of other environments are refused, even if their names begin alike."""
    with machine_role(own.as_role("administrator"), name):
        build: Callable[..., dict[str, Any]] = fleet if call == "create_fleet" else instance
        ec2 = own.as_role("launcher").ec2
        answer = dry_run(getattr(ec2, call), build(own, **profile_of(name)), "instance/*")
        assert answer == "UnauthorizedOperation"


def test_an_experiments_profile_with_another_role_in_it_is_not_passed(own: Deployment) -> None:
    """The profile's name is not enough: PassRole checks the role inside."""
    name = "nightshift-dev-trainer.swapped"
    with machine_role(own.as_role("administrator"), "administrators-machine", profile=name):
        refused = "role/administrators-machine"
        answer = dry_run(
            own.as_role("launcher").ec2.create_fleet, fleet(own, **profile_of(name)), refused
        )
        assert answer == "UnauthorizedOperation"


@contextmanager
def machine_role(administrator: Clients, role: str, profile: str = "") -> Iterator[None]:
    """Make a role that EC2 may assume, with a profile, and delete both afterwards."""
    iam, profile = administrator.iam, profile or role
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    iam.create_role(
        RoleName=role,
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    iam.create_instance_profile(InstanceProfileName=profile)
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=role)
    try:
        yield
    finally:
        iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=role)
        iam.delete_instance_profile(InstanceProfileName=profile)
        iam.delete_role(RoleName=role)


# ---- the stacks
LONG = "an_experiment_with_a_name_of_the_full_one_hundred_characters_" + "x" * 39


@pytest.mark.parametrize("experiment", ["a", A, "a" * 24, "a" * 25, LONG])
def test_the_names_fit_into_aws(experiment: str) -> None:
    """A role's name has at most 64 characters, a stack's 128, whatever the environment is."""
    assert len(f"nightshift-{'e' * 20}-trainer.{short_name(experiment)}") <= 64
    name = experiment_stack_name("e" * 20, experiment)
    assert len(name) <= 128
    assert name.replace("-", "").isalnum()


def test_experiments_with_similar_names_get_different_roles() -> None:
    """Names that differ in one sign, or after the cut, do not share a role or a stack."""
    names = ["a_b", "a-b", "a" * 40, "a" * 41, LONG, LONG[:-1] + "y"]
    assert len({short_name(name) for name in names}) == len(names)
    assert len({experiment_stack_name("dev", name) for name in names}) == len(names)


def test_a_role_is_found_by_its_experiment(own: Deployment) -> None:
    """Airflow's worker, which has no right on IAM, finds the profile in the stack's outputs."""
    airflow = own.as_role("airflow-worker")
    arn = f"arn:aws:iam::{own.account.account_id}:instance-profile/{ROLE_A}"
    assert find_trainer_profile(airflow, "dev", A) == arn
    assert find_trainer_profile(airflow, "dev", "another") is None


def test_the_command_repeats_updates_and_names_what_is_missing(own: Deployment) -> None:
    """The command makes a role once, changes nothing the second time, and needs identity."""
    administrator = own.as_role("administrator")
    assert deploy_experiment(administrator, "dev", LONG)[1] is StackOutcome.CREATED
    assert deploy_experiment(administrator, "dev", LONG)[1] is StackOutcome.UNCHANGED
    assert find_trainer_profile(administrator, "dev", LONG) is not None
    with pytest.raises(NotDeployedError, match="nightshift-elsewhere-identity"):
        deploy_experiment(administrator, "elsewhere", A)
    done = own.account.cli("deploy", "--environment", "dev", "--experiment", "not a name")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    done = own.account.cli("deploy", "--environment", "dev", "--experiment", LONG)
    assert (done.returncode, "unchanged" in done.stdout) == (0, True), done.stderr


def test_only_an_administrator_makes_a_role(own: Deployment) -> None:
    """Airflow's worker cannot make or change the stack of a role."""
    with pytest.raises(AccessRefusedError):
        deploy_experiment(own.as_role("airflow-worker"), "dev", "of_airflow")


def test_a_failed_stack_is_an_error_and_not_the_common_role(own: Deployment) -> None:
    """A run does not fall back to the common role because a deployment failed."""
    administrator = own.as_role("administrator")
    name = experiment_stack_name("dev", "half_made")
    body = json.dumps(
        {
            "Parameters": {"Experiment": {"Type": "String"}},
            "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        }
    )
    administrator.cloudformation.create_stack(
        StackName=name,
        TemplateBody=body,
        Parameters=[{"ParameterKey": "Experiment", "ParameterValue": "half_made"}],
    )
    try:
        with pytest.raises(RoleNotReadyError, match="--experiment half_made"):
            find_trainer_profile(administrator, "dev", "half_made")
    finally:
        administrator.cloudformation.delete_stack(StackName=name)


def test_drift_of_an_experiments_role_is_found(own: Deployment) -> None:
    """A policy that somebody added to an experiment's role is reported."""
    administrator = own.as_role("administrator")
    assert not find_drift(administrator, "dev", Concern.IDENTITY)
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    administrator.iam.put_role_policy(
        RoleName=ROLE_A,
        PolicyName="more",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}),
    )
    try:
        found = find_drift(administrator, "dev", Concern.IDENTITY)
    finally:
        administrator.iam.delete_role_policy(RoleName=ROLE_A, PolicyName="more")
    assert [(drift.stack_name, drift.what) for drift in found] == [
        (experiment_stack_name("dev", A), "a policy more was added")
    ]


def test_roles_of_a_similar_environment_are_not_listed(fresh: Deployment) -> None:
    """The stacks of an environment `x-experiment` are no roles of the environment `x`."""
    administrator = fresh.account.clients()
    name = fresh.settings.environment
    fresh.deploy((Concern.IDENTITY,))
    deploy_experiment(administrator, name, A)
    try:
        (stack,) = list_experiment_stacks(administrator, name)
        assert stack.parameters["Experiment"] == A
        assert not list_experiment_stacks(administrator, f"{name}-experiment")
        assert not list_experiment_stacks(administrator, name[:-1])
    finally:
        assert list(delete_experiments(administrator, name, "destroy")) == [
            experiment_stack_name(name, A)
        ]
    assert find_stack(administrator, experiment_stack_name(name, A)) is None


def test_destroy_deletes_the_roles_before_identity(fresh: Deployment) -> None:
    """The boundary cannot go while a role has it, so the roles of experiments go first."""
    administrator, name = fresh.account.clients(), fresh.settings.environment
    fresh.deploy((Concern.IDENTITY,))
    deploy_experiment(administrator, name, A)
    done = destroy(administrator, fresh.settings, name, fresh.printed.append, settle_s=0)
    assert done.deleted == (experiment_stack_name(name, A), f"nightshift-{name}-identity")
    assert not done.leftovers


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_runs_with_the_role_of_its_experiment(own: Deployment, kind: str) -> None:
    """A's role writes the keys of A's replays, and none of the replays of B."""
    seed = f"seed-{sha256_hex(kind.encode())[:6]}"
    s3 = become(own, ROLE_B).s3
    ours = keys_of(TrialId("replay", f"{B}-scheduled__1", seed))[kind]
    others = keys_of(TrialId("replay", f"{A}-scheduled__1", seed))[kind]
    s3.put_object(Bucket=own.bucket, Key=ours, Body=b"1", IfNoneMatch="*")
    assert_refused(s3.put_object, Bucket=own.bucket, Key=others, Body=b"1", IfNoneMatch="*")
