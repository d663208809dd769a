"""What runs inside: two processes that can reach nothing but each other.

Only the standard library is imported here, and by an interpreter that sees no other package: this
folder is loaded by `trainer.gates.sandbox.execution` in a child, never in the process that asks.
"""
