import time

from celery import shared_task

from cachify_tasks import Reschedule, pooled


@shared_task
@pooled(key="supplier-{supplier}", max_size=2, on_full=Reschedule(delay=0.1, max_delay=0.5))
def import_prices(supplier: str) -> str:
    time.sleep(1)  # the work
    return f"prices of {supplier}"
