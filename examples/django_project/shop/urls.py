from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.crypto import get_random_string
from django.views.decorators.http import require_POST

from .tasks import import_prices


@require_POST
def start(request: HttpRequest, supplier: str) -> JsonResponse:
    task_id = get_random_string(32)
    # After the commit: before it, the task would not see what this request has written.
    import_prices.apply_async_on_commit((supplier,), task_id=task_id)
    return JsonResponse({"id": task_id}, status=202)


urlpatterns = [path("suppliers/<supplier>/imports", start)]
