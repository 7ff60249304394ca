"""The Celery adapter: `setup(app)`, and tasks under `@pooled` run inside their slots, on every worker of the app."""

from .setup_app import setup

__all__ = ["setup"]
