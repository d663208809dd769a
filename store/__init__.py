"""The event store: what happened, kept. It knows nothing of scoring, training or HTTP."""
