"""The Celery adapter: `setup(app)`, and tasks under `@pooled` run inside their slots, on every worker of the app."""

from .wiring import setup

__all__ = ["setup"]
