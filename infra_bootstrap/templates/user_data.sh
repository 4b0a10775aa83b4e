# Runs a training machine from boot to shutdown. The launch template sets `region` and `bucket` before the first line. The
# template of trials with several machines also sets `gang`. Such a machine reads its address and its seat in the trial.
# It works as root on the deep-learning AMI, and as any user on a machine with Python, torch, boto3 and shutdown.
set -uo pipefail
umask 077
export HOME="${HOME:-/root}" AWS_DEFAULT_REGION="$region" AWS_REGION="$region" PYTHONUNBUFFERED=1
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1
imds="${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}"
work="$(mktemp -d "${TMPDIR:-/var/tmp}/nightshift.XXXXXX")"
cd "$work"
exec > >(tee -a boot.log) 2>&1
# Times of the boot's steps, in seconds. The trainer writes them into its log, to show how long a start took.
moment() { local at="${EPOCHREALTIME:-$(date +%s)}"; printf %s "${at/,/.}"; }
export NIGHTSHIFT_BOOT_AT="$(moment)"
# All output goes to the console, too. Airflow reads the words "cannot start (KIND): MESSAGE" there, if no heartbeat was written.
say() { printf '%s nightshift: %s\n' "$(date -u +%H:%M:%S)" "$*"; }

# 1. Set a timer that ends the machine, before anything that can hang. It is an hour until the deadline is known.
# There are two timers, because one can fail. `shutdown` is looked up only once: on the local AWS it is a program of its
# own, and another one that comes later on PATH would end the host instead.
off="$(command -v shutdown)"
arm() {
  echo $(($(date +%s) + $1)) > ends_at
  "$off" -h "+$((($1 + 59) / 60))" || say "shutdown refused the timer"
}
power_off() {
  "$off" -h now && return
  [ -z "${AWS_EC2_METADATA_SERVICE_ENDPOINT:-}" ] && { poweroff -f || echo o > /proc/sysrq-trigger; }
}
arm 3600
(while [ "$(date +%s)" -lt "$(($(cat ends_at) + 60))" ]; do sleep 15; done; power_off) > /dev/null 2>&1 &

# 2. At every exit, report what happened, and shut down. That terminates the machine, and ends its cost.
finish() {
  code=$?
  trap - EXIT
  say "ends with exit status $code after $SECONDS s"
  [ -f boot.py ] && "$python" boot.py report "$code"
  [ "$code" = 0 ] || sleep 1 # the lines above pass through other programs on their way to the console
  power_off
}
trap finish EXIT
trap : TERM INT  # the trainer gets these signals, too, and saves its work

# 3. Find a Python that has boto3 and torch.
for python in /opt/pytorch/bin/python3 python3 ''; do
  [ -n "$python" ] && command -v "$python" > /dev/null &&
    "$python" -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("boto3", "torch"))))' && break
done
[ -n "$python" ] || { say "cannot start (no_python): this image has no Python with torch and boto3"; exit 3; }
say "$("$python" --version) at $(command -v "$python")"

# 4. Read the machine's id and the tags that the launch gave it, from the instance metadata, version 2.
# The program prints assignments. It quotes the values, so that the shell cannot run any of them.
cat > identity.py <<'PY'
import shlex
import sys
import time
import urllib.error
import urllib.request

imds, names = sys.argv[1] + "/latest/", sys.argv[2:]
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(path, method="GET", tries=6, missing=None, **headers):
    """Read a path of the metadata. Try again after throttling or a failure, but not if the path does not exist."""
    for n in range(tries):
        try:
            with direct.open(urllib.request.Request(imds + path, method=method, headers=headers), timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            why = error.code
            if why == 404 and missing is not None:
                return missing
            if why < 500 and why != 429:
                break
        except OSError as error:
            why = error
        time.sleep(min(2**n, 8) if n + 1 < tries else 0)
    kind = "no_tags" if why == 404 else "no_metadata"
    sys.exit(f"nightshift: cannot start ({kind}): the instance metadata has no {path}: {why}")


token = {"X-aws-ec2-metadata-token": ask("api/token", "PUT", **{"X-aws-ec2-metadata-token-ttl-seconds": "21600"})}
print("instance=" + shlex.quote(ask("meta-data/instance-id", **token)))
for name in names:
    if name == "gang":
        print("address=" + shlex.quote(ask("meta-data/local-ipv4", **token)))
        seat = ask("meta-data/tags/instance/nightshift:seat", missing="", **token)
        print("export NIGHTSHIFT_SEAT=" + shlex.quote(seat or "0"))
        continue
    print(f"export NIGHTSHIFT_{name.upper()}=" + shlex.quote(ask("meta-data/tags/instance/nightshift:" + name, **token)))
PY
"$python" identity.py "$imds" environment experiment run trial attempt spec deadline > identity || exit 3
if [ -n "${gang:-}" ]; then "$python" identity.py "$imds" gang >> identity || exit 3; fi
. ./identity
seat="${NIGHTSHIFT_SEAT:-0}"
export NIGHTSHIFT_BUCKET="$bucket" NIGHTSHIFT_WORK="$work"
say "instance $instance: $NIGHTSHIFT_EXPERIMENT/$NIGHTSHIFT_RUN/$NIGHTSHIFT_TRIAL, attempt $NIGHTSHIFT_ATTEMPT${gang:+, seat $seat, $address}"
left="$("$python" -c 'import datetime as d, sys; print(int((d.datetime.fromisoformat(sys.argv[1].replace("Z", "+00:00")) - d.datetime.now(d.timezone.utc)).total_seconds()))' "$NIGHTSHIFT_DEADLINE")" &&
  arm "$((left > 60 ? left : 60))"

# 5. Fetch the spec and the wheels, check their digests, and install the wheels beside the image's own packages.
cat > boot.py <<'PY'
import concurrent.futures as futures
import datetime
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

env = os.environ
work, bucket = Path(env["NIGHTSHIFT_WORK"]), env["NIGHTSHIFT_BUCKET"]
trial = "/".join(env["NIGHTSHIFT_" + name] for name in ("EXPERIMENT", "RUN", "TRIAL"))
if env.get("NIGHTSHIFT_SEAT", "0") != "0":
    trial += "." + env["NIGHTSHIFT_SEAT"]  # heartbeat and log are those of the seat
attempt = int(env["NIGHTSHIFT_ATTEMPT"])
spec_key = f"specs/{env['NIGHTSHIFT_EXPERIMENT']}/{env['NIGHTSHIFT_RUN']}/spec.json"
heartbeat_key = f"heartbeats/{trial}.json"
# Without a way to S3 nothing answers. These limits end the tries after three minutes.
s3 = boto3.client("s3", config=Config(
    retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=5, max_pool_connections=16))
FINAL = ("finished", "interrupted", "fenced", "failed")


class BootError(Exception):
    """The machine cannot start. `cause` is one of the causes of a heartbeat, `kind` is for the console."""

    def __init__(self, cause, message, kind=None):
        super().__init__(message)
        self.cause, self.kind = cause, kind or cause


def code_of(error):
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


def fetch(key, sha256=None, tries=8):
    """Read a key. Try again after a failure, but not if the key is missing or forbidden."""
    for n in range(tries):
        try:
            data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            break
        except Exception as error:  # of any kind: the network may fail, too
            if code_of(error) in ("NoSuchKey", "404", "AccessDenied", "403"):
                raise BootError("code", f"{key}: {code_of(error)}") from None
            if n == tries - 1:
                silent = isinstance(error, (ConnectionError, HTTPClientError))
                raise BootError("store", f"{key}: {code_of(error)}", "no_route" if silent else None) from None
            print(f"{key}: {code_of(error)}, trying again", flush=True)
            time.sleep(min(2**n, 30))
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise BootError("code", f"{key} does not have the digest that was recorded for it")
    return data


def save(name, sha256):
    (work / "wheels" / name).write_bytes(fetch(f"artifacts/{sha256}/{name}", sha256))


def find_installed(sha256):
    """Use the wheels that preinstall.py has put into the image, if they are this very set."""
    there = Path(sys.prefix, "nightshift", sha256)
    try:
        same = hashlib.sha256((there / "wheels.json").read_bytes()).hexdigest() == sha256
    except OSError:
        return False
    if same:
        (work / "site").symlink_to(there / "site")
        print("the wheels are in the image", flush=True)
    return same


def install():
    digest = env["NIGHTSHIFT_SPEC"]
    spec = json.loads(fetch(spec_key, digest if len(digest) == 64 else None))
    (work / "total").write_text(str(spec["experiment"]["total_timesteps"]))
    if not spec.get("trainer"):
        raise BootError("spec", f"{spec_key} names no wheel set (trainer)")
    if find_installed(spec["trainer"]["sha256"]):
        return
    wheels = json.loads(fetch(spec["trainer"]["key"], spec["trainer"]["sha256"]))
    here = "%d.%d" % sys.version_info[:2]
    if wheels["python"] != here:
        raise BootError("spec", f"the wheels are for Python {wheels['python']}, this image has {here}")
    (work / "wheels").mkdir()
    with futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda item: save(*item), sorted(wheels["wheels"].items())))
    with zipfile.ZipFile(next((work / "wheels").glob("uv-*.whl"))) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        (work / "uv").write_bytes(archive.read(member))
    (work / "uv").chmod(0o700)
    files = sorted(str(path) for path in (work / "wheels").glob("*.whl") if not path.name.startswith("uv-"))
    command = [str(work / "uv"), "pip", "install", "--quiet", "--offline", "--no-index", "--no-deps", "--no-config",
               "--cache-dir", str(work / "cache"), "--python", sys.executable, "--target", str(work / "site"), *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BootError("code", "uv: " + " ".join(done.stderr.split())[-500:])
    print(f"{len(files)} wheels installed", flush=True)


def report(status):
    """Upload the log. If the trainer wrote no last heartbeat, write one that says why it failed."""
    signal.alarm(120)
    try:
        s3.put_object(Bucket=bucket, Key=f"logs/{trial}/{attempt:04d}/boot.log", Body=(work / "boot.log").read_bytes())
    except Exception as error:  # of any kind: the heartbeat is still to be written
        print(f"boot.log: {code_of(error)}", flush=True)
    if status == 0:
        return
    try:
        there = json.loads(s3.get_object(Bucket=bucket, Key=heartbeat_key)["Body"].read())
    except Exception:  # of any kind: a heartbeat that cannot be read counts as missing
        there = {}
    if there.get("attempt", 0) > attempt or (there.get("attempt") == attempt and there.get("state") in FINAL):
        return
    lines = (work / "boot.log").read_text(errors="replace").splitlines()
    said = [line for line in lines if "rl_trainer train: " in line or "rl_trainer collect: " in line]
    why = json.loads((work / "why").read_text()) if (work / "why").exists() else {
        "cause": {2: "spec", 137: "out_of_memory"}.get(status, "code"),
        "message": said[-1][:900] if said else f"the trainer ended with exit status {status}"}
    total = (work / "total").read_text() if (work / "total").exists() else "0"
    beat = {"schema_version": 1, "attempt": attempt, "state": "failed", "step": there.get("step", 0),
            "total_timesteps": int(total), "steps_per_s": 0.0, "segment": there.get("segment", 0),
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(), **why}
    s3.put_object(Bucket=bucket, Key=heartbeat_key, Body=json.dumps(beat).encode())


try:
    install() if sys.argv[1] == "install" else report(int(sys.argv[2]))
except Exception as error:  # of any kind: each one is reported as the reason
    why = {"cause": getattr(error, "cause", "code"), "message": f"machine could not start: {error}"[:900]}
    if sys.argv[1] != "install":
        sys.exit(why["message"])
    (work / "why").write_text(json.dumps(why))
    sys.exit(f"nightshift: cannot start ({getattr(error, 'kind', 'code')}): {error}"[:900])
PY
export NIGHTSHIFT_INSTALL_AT="$(moment)"
"$python" boot.py install || exit 4
export NIGHTSHIFT_READY_AT="$(moment)"
say "ready after $SECONDS s"

# 6. Train, or collect for the machine that trains. The trainer reports its results itself: in its heartbeat, its checkpoints
# and its policies.
export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
if [ "$seat" = 0 ]; then
  "$python" -m rl_trainer train --spec "s3://$bucket/specs/$NIGHTSHIFT_EXPERIMENT/$NIGHTSHIFT_RUN/spec.json" --store "s3://$bucket" \
    --trial "$NIGHTSHIFT_TRIAL" --attempt "$NIGHTSHIFT_ATTEMPT" --watch-interruption ${gang:+--address "$address"} &
else
  "$python" -m rl_trainer collect --spec "s3://$bucket/specs/$NIGHTSHIFT_EXPERIMENT/$NIGHTSHIFT_RUN/spec.json" --store "s3://$bucket" \
    --trial "$NIGHTSHIFT_TRIAL" --attempt "$NIGHTSHIFT_ATTEMPT" --watch-interruption --seat "$seat" --address "$address" &
fi
trainer=$!
wait "$trainer"
code=$?
while kill -0 "$trainer" 2> /dev/null; do wait "$trainer"; code=$?; done  # a signal ends `wait`, not the trainer
exit "$code"
