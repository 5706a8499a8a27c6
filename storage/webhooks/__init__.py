"""Webhooks: endpoints, the outbox of their deliveries, the delivery itself, and dead letters.

Triggers write the outbox (storage/db/triggers), so that an event is stored exactly if its change is. A worker claims a
delivery by a conditional update that moves its next attempt ahead, which is its lease: if the worker dies, another one
tries again. Every event is therefore delivered at least once, and the receiver recognizes a repeated one by its id.
Accepted deliveries are deleted; one that is rejected for a day becomes a dead letter, to be listed and replayed.

Endpoints do not affect each other: one that fails is paused, and only its own events wait.
"""
