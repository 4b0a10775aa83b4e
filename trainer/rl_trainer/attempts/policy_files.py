"""Write the policy of a checkpoint to `policies/`: ONNX, parameters, and last its record.

A policy is complete once its record exists.
"""

from collections.abc import Sequence
from typing import Any

from safetensors.numpy import save as save_safetensors

from rl_lifecycle.evaluation.policies import PolicyRecord
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import policy_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_trainer.checkpointing.model_state import Arrays
from rl_trainer.onnx_export.export import export_policy, raw_space
from rl_trainer.onnx_export.reference import Observations


class PolicyWriter:
    """Writes the policies of one trial.

    :param wrappers: the wrappers of the trial's environments.
    """

    def __init__(
        self,
        store: ObjectStore,
        spec: Spec,
        trial: str,
        attempt: int,
        wrappers: Sequence[WrapperForm] = (),
    ) -> None:
        self.store, self.spec, self.trial, self.attempt, self.wrappers = (
            store,
            spec,
            trial,
            attempt,
            wrappers,
        )
        self._trial_id = spec.trial_id(trial)

    def exists(self, step: int) -> bool:
        """Tell whether the policy at a step is complete."""
        return self.store.find(policy_key(self._trial_id, step, "json")) is not None

    def write(
        self,
        model: Any,
        parameters: Arrays,
        step: int,
        *,
        final: bool,
        manifest: tuple[str, str],
        visited: Observations | None = None,
        learning: Arrays | None = None,
    ) -> PolicyRecord:
        """Export a model, and write its three files.

        :param manifest: key and SHA-256 of the checkpoint that holds this policy.
        :param visited: observations from training, for the equality check. None means that only
            sampled observations are compared.
        :param learning: arrays that are stored beside the parameters for a warm start. They are not
            part of the digest.
        """
        experiment = self.spec.experiment
        space, stack = raw_space(model.env)
        exported = export_policy(
            model,
            parameters,
            algo=experiment.algo,
            env_id=experiment.env_id,
            env_kwargs=dict(experiment.env_kwargs),
            observation_space=space,
            stack=stack,
            statistics=model.get_vec_normalize_env(),
            visited=visited,
            wrappers=self.wrappers,
        )
        record = PolicyRecord(
            experiment=experiment.name,
            run=self.spec.run,
            trial=self.trial,
            attempt=self.attempt,
            step=step,
            final=final,
            spec_sha256=self.spec.sha256,
            digest=exported.metadata.digest,
            policy=self._put(step, "onnx", exported.onnx),
            parameters=self._put(
                step, "safetensors", save_safetensors({**(learning or {}), **parameters})
            ),
            manifest=Artifact(key=manifest[0], sha256=manifest[1]),
            metadata=exported.metadata,
        )
        self.store.put(policy_key(self._trial_id, step, "json"), record.to_json())
        return record

    def _put(self, step: int, suffix: str, data: bytes) -> Artifact:
        key = policy_key(self._trial_id, step, suffix)
        self.store.put(key, data)
        return Artifact(key=key, sha256=sha256_hex(data))
