"""The Taskiq adapter: with `CachifyMiddleware`, tasks under `@pooled` run inside their slots."""

from .middleware import CachifyMiddleware
from .receiver import CachifyReceiver

__all__ = ["CachifyMiddleware", "CachifyReceiver"]
