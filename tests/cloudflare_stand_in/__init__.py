"""A stand-in for the part of Cloudflare that a release needs: finetunes, models, runs, a KV store.

It keeps what the real one is known to keep (finetunes for ever, files as they were first sent, KV
values that some readers see late) and fails on demand in the ways that the real one is known to
fail. It runs no model: a test says how its models speak.
"""

from __future__ import annotations

from tests.cloudflare_stand_in.account import LORA_MODEL, Account, Finetune
from tests.cloudflare_stand_in.server import Exchange, StandIn

__all__ = ["LORA_MODEL", "Account", "Exchange", "Finetune", "StandIn"]
