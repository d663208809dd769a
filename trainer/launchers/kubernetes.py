"""A Kubernetes Job: `bhavana train --launcher kubernetes --dry-run | kubectl apply -f -`.

A pod that asks to be started again (75) or is driven off its node costs no attempt; one whose
orders are wrong, that does not fit, or that was halted ends the Job at once.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from store.errors import Misconfigured
from store.orphans import EXIT_RETRYABLE
from trainer.attempts import (
    EXIT_CAPACITY,
    EXIT_CONFIG,
    EXIT_ETHICS,
    EXIT_INTEGRITY,
    MOST_ATTEMPTS,
)
from trainer.launchers.launcher import TERMINATE_SECONDS, Plan, training

CHECKOUT = "/opt/bhavana"
PYTHON = f"{CHECKOUT}/.venv/bin/python"
CONTAINER, VOLUME = "train", "data"
LONGEST_NAME = 63
USER = 65534
"""Nobody: the files of the volume must let this user's group in (fsGroup sees to it)."""
FINAL = [EXIT_CONFIG, EXIT_CAPACITY, EXIT_INTEGRITY, EXIT_ETHICS]


def show(plan: Plan) -> str:
    """The manifest as YAML. Raises Misconfigured where a setting is missing."""
    return msgspec.yaml.encode(manifest(plan), order="deterministic").decode()


def manifest(plan: Plan) -> dict[str, Any]:
    """The Job as data. Raises Misconfigured where a setting is missing."""
    wanted = plan.launch.kubernetes
    for name in ("image", "claim"):
        if not getattr(wanted, name):
            raise Misconfigured(
                f"trainer.launch.kubernetes.{name} is not set.",
                hint=f"Set it, as in BHAVANA_TRAINER__LAUNCH__KUBERNETES__{name.upper()}=...",
            )
    labels = {"app.kubernetes.io/name": "bhavana", "app.kubernetes.io/component": "trainer"}
    spec: dict[str, Any] = {
        "backoffLimit": MOST_ATTEMPTS,
        "podFailurePolicy": {"rules": _rules()},
        "template": {"metadata": {"labels": labels}, "spec": _pod(plan)},
    }
    if plan.launch.minutes:
        spec["activeDeadlineSeconds"] = plan.launch.minutes * 60
    name = _dns_name(plan.folder.name)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": wanted.namespace, "labels": labels},
        "spec": spec,
    }


def _rules() -> list[dict[str, Any]]:
    def ended_with(codes: list[int]) -> dict[str, Any]:
        return {"containerName": CONTAINER, "operator": "In", "values": codes}

    return [
        {"action": "FailJob", "onExitCodes": ended_with(FINAL)},
        {"action": "Ignore", "onExitCodes": ended_with([EXIT_RETRYABLE])},
        {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
    ]


def _pod(plan: Plan) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",  # podFailurePolicy asks for it; the Job makes a new pod
        "terminationGracePeriodSeconds": TERMINATE_SECONDS,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(plan)],
        "volumes": [
            {
                "name": VOLUME,
                "persistentVolumeClaim": {"claimName": plan.launch.kubernetes.claim},
            },
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _container(plan: Plan) -> dict[str, Any]:
    limits: dict[str, str] = {}
    if plan.limits.memory_mb:
        limits["memory"] = f"{plan.limits.memory_mb}Mi"
    if plan.limits.cpus:
        limits["cpu"] = str(plan.limits.cpus)
    if plan.launch.gpus:
        limits["nvidia.com/gpu"] = str(plan.launch.gpus)
    return {
        "name": CONTAINER,
        "image": plan.launch.kubernetes.image,
        "command": training(plan, PYTHON),
        "workingDir": CHECKOUT,
        "env": [
            {"name": "HF_HUB_DISABLE_TELEMETRY", "value": "1"},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108  # the pod's own
            {"name": "PYTHONUNBUFFERED", "value": "1"},
        ],
        "resources": {"limits": limits, "requests": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": VOLUME, "mountPath": str(plan.data)},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }


def _dns_name(text: str) -> str:
    """A name as Kubernetes takes it: lower case, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:LONGEST_NAME].strip("-")
