"""Tells another program of what the loop did by itself, as Standard Webhooks has it.

settings.py    where to, and the secret
message.py     which events are told, as what, and signed; pure
delivery.py    at least once each, in their order, over restarts
"""
