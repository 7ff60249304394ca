"""The Celery app, as in the Celery documentation, and `setup`."""

import os

from celery import Celery
from django.conf import settings

from cachify_tasks.celery import setup

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
setup(app, **settings.CACHIFY)
