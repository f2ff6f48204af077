"""The Celery application of test_celery.py, as its workers and their client load it."""

import os
import time
from pathlib import Path

from celery import Celery
from kombu import Exchange, Queue
from kombu.common import Broadcast

from support import AMQP_URI, unique

# The first to load this, the test, chooses; the workers that it starts inherit its choice.
NAMES = os.environ.setdefault("INTEROP_CELERY_NAMES", unique("celery"))
MARKS = Path(os.environ.get("INTEROP_CELERY_MARKS", "/nonexistent"))
HELD_SECONDS_MAX = 20


def name(of):
    return f"{NAMES}.{of}"


reports = Exchange(name("reports"), type="direct")
media = Exchange(name("media"), type="topic")
plain = Exchange(name("plain"), type="direct")

app = Celery("interop", broker=AMQP_URI, backend="rpc://")
app.conf.update(
    task_default_queue=name("default"),
    task_default_exchange=name("plain"),
    task_queues=[
        Queue(name("default"), plain, routing_key="default"),
        Queue(name("reports"), reports, routing_key="report"),
        Queue(name("images"), media, routing_key="media.image.#"),
        Queue(name("videos"), media, routing_key="media.video.#"),
        Queue(name("urgent"), plain, routing_key="urgent", max_priority=10),
        Queue(name("fragile"), plain, routing_key="fragile"),
        Queue(name("narrow"), plain, routing_key="narrow"),
        Queue(name("nobody"), plain, routing_key="nobody"),
        Broadcast(name("everybody")),
    ],
    task_default_routing_key="default",
    task_routes={"everywhere": {"queue": name("everybody")}},
    broker_transport_options={"confirm_publish": True},
    # Names of its own, so that two runs on one broker do not hear each other.
    control_exchange=name("control"),
    event_exchange=name("events"),
    event_queue_prefix=name("events"),
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


def mark(of):
    (MARKS / of).touch()


def marks(pattern):
    return sorted(path.name for path in MARKS.glob(pattern))


def wait_for_mark(of):
    deadline = time.monotonic() + HELD_SECONDS_MAX
    while not (MARKS / of).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody has set {of}")
        time.sleep(0.01)


class Unreachable(Exception):
    """What a task raises for something that may work the next time."""


@app.task(name="add")
def add(x, y):
    return x + y


@app.task(name="fail")
def fail(text):
    raise ValueError(text)


@app.task(name="where", bind=True)
def where(self, *_):
    """Who ran it, and how it came there."""
    delivery = self.request.delivery_info
    return {
        "worker": self.request.hostname.partition("@")[0], "exchange": delivery["exchange"],
        "routing_key": delivery["routing_key"], "redelivered": delivery["redelivered"]}


@app.task(name="everywhere", bind=True, ignore_result=True)
def everywhere(self, of):
    mark(f"{of}.{self.request.hostname.partition('@')[0]}")


@app.task(name="fetch", bind=True, autoretry_for=(Unreachable,), max_retries=3, default_retry_delay=0.2)
def fetch(self, failures):
    if self.request.retries < failures:
        raise Unreachable(f"attempt {self.request.retries}")
    return self.request.retries


@app.task(name="poll", bind=True, max_retries=5)
def poll(self, started):
    """Asks to be run again, later and later."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.2 * (self.request.retries + 1))
    return time.time() - started


@app.task(name="finished_at")
def finished_at():
    return time.time()


executed = []


@app.task(name="turn")
def turn(task):
    """The tasks that this process has had, this one last."""
    executed.append(task)
    return executed


@app.task(name="hold", bind=True, acks_late=True)
def hold(self, of, number=0):
    """Runs until the mark `<of>.go` is set; acknowledged when it is done."""
    mark(f"{of}.{number}.began")
    wait_for_mark(f"{of}.go")
    return where.run.__func__(self)


@app.task(name="die_once", bind=True, acks_late=True, reject_on_worker_lost=True)
def die_once(self, of):
    """Ends its own process the first time."""
    if not marks(of):
        mark(of)
        os._exit(1)
    return where.run.__func__(self)
