"""Noticing of uploads whose clients call no `complete`: by the worker's polling, and by the store's notifications."""
