"""Puts the parts of one local AWS together."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_aws.cloudformation.front import CloudFormationFront, with_request_keys
from local_aws.cloudformation.provisioning import Provisioning
from local_aws.ec2 import images
from local_aws.ec2.describe_calls import DescribeCalls
from local_aws.ec2.launch_calls import Launching
from local_aws.ec2.launch_spec import Resolver
from local_aws.ec2.life import Life
from local_aws.ec2.networks import Networks
from local_aws.ec2.permissions import Permissions
from local_aws.ec2.service import Ec2
from local_aws.ec2.store import LIVE, Instance, Store
from local_aws.emulator import inproc, seams
from local_aws.faults.engine import FaultEngine
from local_aws.faults.wiring import Wiring
from local_aws.functions.delivery import Delivery, remembering_rule, reserved_concurrency
from local_aws.functions.front import LambdaFront
from local_aws.functions.runner import Runner
from local_aws.functions.runtimes import Runtimes
from local_aws.iam import least_privilege, simulation
from local_aws.iam.authorization import Authorizer
from local_aws.iam.denials import ACTION as DECODE
from local_aws.iam.denials import StsFront
from local_aws.iam.sessions import Issuer
from local_aws.iam.trust import IamFront
from local_aws.machines import bounds
from local_aws.machines.air_gap import AirGapWatch
from local_aws.machines.machine import Host
from local_aws.machines.reaper import Reaper
from local_aws.pace import PACES, Lags
from local_aws.pricing.json_service import TARGET_PREFIXES, JsonService
from local_aws.pricing.price_list import PriceList
from local_aws.pricing.quotas import Quotas
from local_aws.s3.endpoints import Endpoints
from local_aws.s3.front import S3Front
from local_aws.server import account, answers
from local_aws.server.answers import Answers
from local_aws.server.front import Committing, Front
from local_aws.server.persistence import Saver, fail_interrupted_stacks
from local_aws.server.tag_memory import TagMemory
from local_aws.state_folder import Running, StateFolder

log = logging.getLogger("local_aws")
COMMIT_EVERY_S = 1.0


class LocalAccount:
    """A local AWS account: the emulator with its replaced parts.

    :param ami: the environment that stands for the machine image.
    :param pace: a name in :data:`local_aws.pace.PACES`.
    :param seed: decides for how long calls do not find each new instance.
    """

    def __init__(
        self, state: StateFolder, running: Running, ami: Path, pace: str, seed: int
    ) -> None:
        seams.check()
        self.state = state
        self.running = running
        self.pace, self.seed = pace, seed
        self.authorizer = Authorizer(running.region)
        self.authorizer.install()
        simulation.install(running.account_id)
        self.saver = Saver(state.emulator, state.path / "sessions.json")
        self.saver.install()
        self.issuer = Issuer(running.account_id, running.region)
        self.reaper = Reaper(running.process_mark)
        self.watch = AirGapWatch(running.process_mark, self._has_processes)
        self.host = Host(
            state.machines,
            ami,
            running.endpoint_url,
            running.region,
            running.process_mark,
            self.reaper,
        )
        self.ec2 = self._make_ec2()
        self.runtimes = Runtimes(state.functions / "runtime")
        self.runner = Runner(
            state.functions,
            self.runtimes,
            self.issuer,
            self.reaper,
            running.endpoint_url,
            running.process_mark,
        )
        self.runner.on_start = self.watch.wake
        self.delivery = Delivery(self.issuer, self.authorizer, PACES[pace])
        self._install_fronts()
        self._install_functions()
        self._install_cloudformation()
        self._install_prices()
        self.answers = Answers() if os.environ.get(answers.VARIABLE) else None
        self.engine = FaultEngine()
        self.faults = Wiring(
            self.engine, self.ec2, self.issuer, self.authorizer, self.runner, self.delivery
        )
        self.quotas.changed = self.faults.quota
        self.front = Front(
            seams.module("app").app,
            self.issuer,
            account.Grants(state.path / "secret"),
            running.control_token,
            self.saver,
        )
        self.front.on_ready = self.ready
        self.front.orders = {
            "status": self.status,
            "grants": self.grant,
            "faults": self.faults.order,
            "permissions": self.permissions,
        }
        self.app = self.front
        self._commit_changes()

    def _make_ec2(self) -> Ec2:
        """Create our EC2 and put it in front of the emulator's EC2."""
        region = self.running.region
        original = inproc.keep_original("ec2")
        network, iam = inproc.client("ec2", region), inproc.client("iam", region)
        store = Store(self.state.path / "instances.json")
        pace = PACES[self.pace]
        life = Life(
            store, self.host, self.issuer, self.running.account_id, pace, Lags(pace, self.seed)
        )
        reader = DescribeCalls(store, network, region, self.images, pace.console_s)
        permissions = Permissions(self.authorizer, self.running.account_id, region)
        launching = Launching(store, life, Resolver(network, iam), permissions, self.images)
        ec2 = Ec2(original, store, life, reader, Networks(network), launching, permissions)
        life.on_change = self._note_change
        self.authorizer.authorizes_itself = lambda service, action: (
            service in TARGET_PREFIXES
            or ec2.authorizes(service, action)
            or action == f"sts:{DECODE}"
        )
        self.authorizer.endpoint_denies = Endpoints(store, self.running.account_id, region).denies
        seams.seam("app", "SERVICE_HANDLERS")["ec2"] = ec2
        collectors = seams.seam("services.tagging", "_COLLECTORS")
        collectors["ec2"] = lambda: reader.tagged_resources(permissions.arn)
        self.tag_memory = TagMemory(pace.still_named_s)
        self.tag_memory.install(collectors)
        return ec2

    def _note_change(self, _instance: Instance) -> None:
        """Save the instances, and watch the connections of a machine that starts."""
        self.ec2.store.save()
        self.watch.wake()

    def _install_fronts(self) -> None:
        """Put checks in front of IAM and S3 where the emulator is less strict than AWS."""
        handlers = seams.seam("app", "SERVICE_HANDLERS")
        handlers["s3"] = S3Front(inproc.keep_original("s3"), self.authorizer)
        handlers["iam"] = IamFront(inproc.keep_original("iam"))
        handlers["sts"] = StsFront(inproc.keep_original("sts"), self.authorizer)

    def _install_functions(self) -> None:
        """Let the emulator run functions in our runtime and deliver events by AWS's rules."""
        handlers = seams.seam("app", "SERVICE_HANDLERS")
        handlers["lambda"] = LambdaFront(
            inproc.keep_original("lambda"), self.authorizer, self.runtimes, self.runner
        )
        seams.replace(
            "services.lambda_svc", "_execute_function_warm", lambda _: self.runner.execute
        )
        seams.replace(
            "services.lambda_svc", "invoke_async_with_retry", lambda _: self.delivery.invoke_async
        )
        seams.replace("services.lambda_svc", "_emit_lambda_logs", self.delivery.logging_as_role)
        seams.replace(
            "services.lambda_svc", "_reserved_concurrency", lambda _: reserved_concurrency
        )
        seams.replace(
            "services.eventbridge", "_dispatch_to_lambda", lambda _: self.delivery.deliver_rule
        )
        seams.replace("services.eventbridge", "_invoke_target", remembering_rule)

    def _install_cloudformation(self) -> None:
        """Let stacks act with their operator's permissions and keep every property of their
        templates.
        """
        handlers = seams.seam("app", "SERVICE_HANDLERS")
        handlers["cloudformation"] = CloudFormationFront(
            inproc.keep_original("cloudformation"), self.authorizer, self.issuer
        )
        seams.replace("core.iam_actions", "request_tag_context", with_request_keys)
        Provisioning(self.authorizer, self.issuer, self.runtimes, self.runner).install()

    def _install_prices(self) -> None:
        """Add the price list and the quotas."""
        handlers, patterns = (
            seams.seam("app", "SERVICE_HANDLERS"),
            seams.seam("core.router", "SERVICE_PATTERNS"),
        )
        self.quotas = Quotas(self.running.account_id, self.running.region)
        made = {
            "pricing": PriceList(self.running.region).actions,
            "servicequotas": self.quotas.actions,
        }
        for name, actions in made.items():
            handlers[name] = JsonService(name, actions, self.authorizer)
            patterns[name] = {"target_prefixes": [TARGET_PREFIXES[name]], "host_patterns": []}

    def _commit_changes(self) -> None:
        """Wrap every handler so that a change is saved before its caller gets an answer."""
        handlers = seams.seam("app", "SERVICE_HANDLERS")
        for service, handler in list(handlers.items()):
            handlers[service] = Committing(
                service,
                handler,
                self.saver,
                self.engine,
                self.tag_memory,
                self.faults.machines.saw_write,
                self.answers,
            )

    def images(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the images of the account by their ids."""
        known = images.describe(self.running.region, python_of(self.host.ami))
        return {image["ImageId"]: image for image in known}

    # --- Start and end ---

    def ready(self) -> None:
        """Finish the start after the emulator has loaded its state, then announce the server."""
        for stack in fail_interrupted_stacks():
            log.warning(
                "stack %s was in progress when the local AWS stopped: it is now failed", stack
            )
        self.saver.load_sessions()
        self.ec2.store.load()
        account.seed(self.running.region)
        self.saver.save()
        threading.Thread(target=self._commit_in_background, daemon=True, name="commits").start()
        self.faults.machines.start()
        self.watch.start()
        gc.collect()
        gc.freeze()  # the objects of the start live for ever, so no collection needs to visit them
        self.state.announce(self.running)
        log.info("ready at %s", self.running.endpoint_url)

    def _commit_in_background(self) -> None:
        """Save the changes of background work, such as a stack that continues after its request's
        answer.
        """
        while True:
            self.saver.await_work()
            time.sleep(COMMIT_EVERY_S)
            try:
                self.saver.save_while_busy()
            except Exception:  # one failed round must not end the thread
                log.exception("saving the changes of background work")

    def close(self) -> None:
        """End everything that was started."""
        self.faults.machines.close()
        self.watch.close()
        self.ec2.life.end_all()
        self.runner.close()
        self.ec2.store.save()
        self.reaper.close()

    def _has_processes(self) -> bool:
        """Say whether a machine or a function may be running. A frozen function does not run."""
        return self.runner.active() > 0 or any(
            instance.state in LIVE for instance in self.ec2.store.known()
        )

    # --- Orders ---

    def grant(self, order: dict[str, Any]) -> dict[str, Any]:
        """Return the token with which a role's credentials can be read."""
        self.issuer.get_role(str(order["role"]))
        return {"token": account.Grants(self.state.path / "secret").token(str(order["role"]))}

    def permissions(self, order: dict[str, Any]) -> dict[str, Any]:
        """Report the actions that each role's policies allow, and which of them it never used."""
        iam = inproc.client("iam", self.running.region)
        return {
            "roles": least_privilege.report(
                iam, self.authorizer.usage.as_list(), str(order.get("role") or "*")
            )
        }

    def status(self, _order: dict[str, Any]) -> dict[str, Any]:
        """Report what runs, and which connections tried to leave this machine."""
        known = self.ec2.store.known()
        return {
            "instances": [
                {
                    "instance_id": i.id,
                    "state": i.state,
                    "instance_type": i.record["InstanceType"],
                    "name": i.tags.get("Name", ""),
                }
                for i in known
            ],
            "faults": self.engine.as_list(),
            "out_of_bounds": self._out_of_bounds(),
            "lambda_runtimes": self.runtimes.available(),
            "functions_running": self.runner.running(),
            "ami": str(self.host.ami),
            "pace": self.pace,
            "seed": self.seed,
            "usage": self.authorizer.usage.as_list(),
            **({"answers": self.answers.as_dict()} if self.answers else {}),
        }

    def _out_of_bounds(self) -> list[dict[str, str]]:
        """List the processes that tried to reach beyond this machine.

        The guard in Python stopped them, or they were found in the kernel's tables.
        """
        machines = {i.id: i.machine.bounds_log for i in self.ec2.store.known() if i.machine}
        functions = {path.name: path for path in (self.state.functions / "out-of-bounds").glob("*")}
        logged = [
            {"who": who, "address": address, "program": "python"}
            for who, path in {**machines, **functions}.items()
            for address in bounds.read_log(path)
        ]
        return logged + self.watch.seen()


def python_of(environment: Path) -> str:
    """Return the version X.Y of an environment's Python, read from its `pyvenv.cfg`."""
    try:
        lines = (environment / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return "unknown"
    values = {
        key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)
    }
    version = values.get("version_info") or values.get("version") or "unknown"
    return ".".join(version.split(".")[:2])
