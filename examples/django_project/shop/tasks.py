import time

from celery import shared_task

from cachify_tasks import pooled


@shared_task
@pooled(key="supplier-{supplier}", max_size=2)
def import_prices(supplier: str) -> str:
    time.sleep(1)  # the work
    return f"prices of {supplier}"
