"""Django: a view sends a pooled task after its transaction was committed; a management command shows who is busy.

Run it: `python examples/django_project/run.py`; it needs Django. What to see:

- four imports are sent at once; two run at a time for one supplier, and all of them succeed;
- `manage.py busy SUPPLIER` needs no settings of its own: it uses the app's store.

In production: `celery -A shop worker` and `manage.py runserver`, in this folder.
"""

import os
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")


def main() -> None:
    from django.core.management import call_command
    from django.test import Client
    from shop.celery import app

    client = Client()
    ids = [client.post("/suppliers/acme/imports").json()["id"] for _ in range(4)]
    time.sleep(0.3)
    call_command("busy", "acme")
    print([app.AsyncResult(id_).get(timeout=20) for id_ in ids])


if __name__ == "__main__":
    import django

    django.setup()

    from _worker import server_and_worker
    from shop.celery import app as celery_app

    with server_and_worker(celery_app, folder=FOLDER):
        main()
