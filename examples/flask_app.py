"""Flask with an application factory: one view sends a pooled task, another one shows how busy its pool is.

Run it: `python examples/flask_app.py`; it needs Flask. What to see:

- four exports are sent at once; two run at a time for one shop, and all of them succeed;
- the view that shows how busy a shop is needs no settings of its own: it uses the app's store.

In production: `celery -A flask_app worker`, and `flask_app:flask_app` for the web server.
"""

import time
from typing import Any

from celery import Celery, Task, shared_task
from flask import Flask, current_app, jsonify

from cachify_tasks import pooled
from cachify_tasks.celery import setup


def create_app() -> Flask:
    app = Flask("flask_app")
    app.config.from_mapping(
        EXPORT_FORMAT="csv",
        CELERY={"broker_url": "redis://localhost:6379/0", "result_backend": "redis://localhost:6379/0"},
    )
    app.extensions["celery"] = create_celery(app)

    @app.post("/shops/<shop>/exports")
    def start(shop: str) -> Any:
        return jsonify(id=export.delay(shop).id), 202

    @app.get("/shops/<shop>")
    def busy(shop: str) -> Any:
        return jsonify(exports=export.size(shop))

    @app.get("/exports/<task_id>")
    def show(task_id: str) -> Any:
        result = app.extensions["celery"].AsyncResult(task_id)
        return jsonify(state=result.state, result=result.result if result.successful() else None)

    return app


def create_celery(app: Flask) -> Celery:
    """As the Flask documentation has it, and `setup`."""

    class FlaskTask(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery = Celery(app.name, task_cls=FlaskTask)
    celery.config_from_object(app.config["CELERY"])
    celery.set_default()
    setup(celery)
    return celery


@shared_task
@pooled(key="shop-{shop}", max_size=2)
def export(shop: str) -> str:
    time.sleep(0.5)  # the work
    return f"{shop}.{current_app.config['EXPORT_FORMAT']}"


flask_app = create_app()
celery = flask_app.extensions["celery"]  # `celery -A` looks for this name


def main() -> None:
    client = flask_app.test_client()
    ids = [client.post("/shops/corner/exports").get_json()["id"] for _ in range(4)]
    busiest = 0
    while any(client.get(f"/exports/{id_}").get_json()["state"] != "SUCCESS" for id_ in ids):
        busiest = max(busiest, client.get("/shops/corner").get_json()["exports"])
        time.sleep(0.05)
    print([client.get(f"/exports/{id_}").get_json()["result"] for id_ in ids])
    print("at once, as the view saw it, at most:", busiest)


if __name__ == "__main__":
    from _worker import server_and_worker

    with server_and_worker(celery):
        main()
