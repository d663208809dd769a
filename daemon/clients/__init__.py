"""Clients for frontends: every experience and every piece of feedback is stored exactly once.

`client.py` is for Python, `bhavana.js` for browsers and Workers. Each is one file that knows
nothing else of this house, so a frontend may copy it.
"""

from daemon.clients.client import AsyncClient, Client, QueueFull, Stopped

__all__ = ["AsyncClient", "Client", "QueueFull", "Stopped"]
