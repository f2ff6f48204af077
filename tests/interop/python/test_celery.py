"""A Celery application, its workers and their remote control, as they are, on the broker."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from celery import chain, group
from celery.exceptions import TaskRevokedError
from kombu import Connection, Exchange, Queue
from kombu.transport import native_delayed_delivery

from celery_app import (
    NAMES, Unreachable, add, app, die_once, everywhere, fail, fetch, finished_at, hold, mark, marks, media, name, poll,
    reports, turn, where)
from support import AMQP_URI, DEADLINE_SECONDS, BrokerTest, connect

HERE = Path(__file__).parent
GET = {"timeout": DEADLINE_SECONDS, "interval": 0.02}
WORKER_SECONDS_MAX = 25
ONE_AT_A_TIME = ("--concurrency=1", "--prefetch-multiplier=1", "--without-mingle")


class Worker:
    """A worker process of this app, ended by its process id."""

    def __init__(self, marks_dir, worker, queues, *options):
        self.name = worker
        self.host = f"{worker}@interop"
        self.log = Path(marks_dir) / f"{worker}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app=celery_app", "worker", f"--hostname={self.host}",
                 f"--queues={','.join(name(queue) for queue in queues)}", "--loglevel=INFO", *options],
                cwd=HERE, stdout=log, stderr=subprocess.STDOUT)

    def ready(self):
        """Returns once it consumes; raises with what it logged if it does not get that far."""
        deadline = time.monotonic() + WORKER_SECONDS_MAX
        while f"{self.host} ready." not in self.log.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-6000:]}")
            time.sleep(0.05)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()


def start(add_cleanup, *workers):
    """Starts workers side by side, given as (name, queues, options...), and ends them so."""
    started = []
    for worker in workers:
        started.append(Worker(os.environ["INTEROP_CELERY_MARKS"], *worker))
        add_cleanup(started[-1].end)
    for worker in started:
        add_cleanup(worker.process.terminate)
    return [worker.ready() for worker in started]


def delete_everything():
    connection = connect()
    channel = connection.channel()
    for queue in app.conf.task_queues:
        if queue.name.startswith(NAMES):
            channel.queue_delete(queue.name)
    for exchange in ("plain", "reports", "media", "everybody", "events", "control.pidbox"):
        channel.exchange_delete(name(exchange))
    channel.exchange_delete(f"reply.{name('control')}.pidbox")
    connection.close()


def setUpModule():
    marks_dir = tempfile.TemporaryDirectory(prefix="interop-celery-")
    unittest.addModuleCleanup(marks_dir.cleanup)
    unittest.addModuleCleanup(delete_everything)
    unittest.addModuleCleanup(app.close)
    os.environ["INTEROP_CELERY_MARKS"] = marks_dir.name
    import celery_app
    celery_app.MARKS = Path(marks_dir.name)


class Celery(BrokerTest):
    def start(self, *worker):
        return start(self.addCleanup, worker)[0]

    def marked(self, pattern, count):
        self.eventually(lambda: len(marks(pattern)) >= count, f"{count} marks {pattern}")


class Tasks(Celery):
    """Two workers with a pool of processes each, as they are started by default."""

    @classmethod
    def setUpClass(cls):
        cls.first, cls.second = start(
            cls.addClassCleanup,
            ("first", ["default", "reports", "images", "everybody"], "--concurrency=2", "--task-events"),
            ("second", ["videos", "everybody"], "--concurrency=1"))

    def test_results_come_back_to_the_one_that_asked(self):
        results = [add.delay(number, 1) for number in range(50)]
        self.assertEqual([result.get(**GET) for result in results], list(range(1, 51)))
        self.assertEqual(results[0].state, "SUCCESS")

    def test_what_a_task_raises_comes_back(self):
        with self.assertRaisesRegex(ValueError, "no such file"):
            fail.delay("no such file").get(**GET)

    def test_a_large_argument_arrives_unchanged(self):
        text = "0123456789" * 60_000
        self.assertEqual(add.apply_async((text, "!"), compression="gzip").get(**GET), text + "!")
        self.assertEqual(add.delay(text, "!").get(**GET), text + "!")

    def test_a_task_is_retried_until_it_works(self):
        self.assertEqual(fetch.delay(2).get(**GET), 2)

    def test_a_task_that_never_works_fails_after_its_retries(self):
        result = fetch.delay(9)
        with self.assertRaisesRegex(Unreachable, "attempt 3"):
            result.get(**GET)
        self.assertEqual(result.state, "FAILURE")

    def test_a_task_that_asks_for_it_runs_again_later(self):
        self.assertGreater(poll.delay(time.time()).get(**GET), 0.6)

    def test_a_task_runs_after_its_countdown_and_not_before(self):
        started = time.time()
        later = finished_at.apply_async(countdown=1)
        at_once = finished_at.delay()
        self.assertGreaterEqual(later.get(**GET), started + 1)
        self.assertLess(at_once.get(**GET), later.get(**GET))

    def test_a_revoked_task_never_runs(self):
        result = finished_at.apply_async(countdown=2)
        result.revoke()
        with self.assertRaises(TaskRevokedError):
            result.get(**GET)

    def test_a_running_task_is_terminated(self):
        result = hold.delay("terminated")
        self.marked("terminated.0.began", 1)
        result.revoke(terminate=True, signal="SIGKILL")
        with self.assertRaises(TaskRevokedError):
            result.get(**GET)

    def test_a_task_whose_process_died_is_requeued(self):
        self.assertTrue(die_once.delay("died").get(**GET)["redelivered"])

    def test_tasks_are_routed_by_direct_and_topic_exchanges(self):
        for exchange, key, worker in (
                (reports, "report", "first"), (media, "media.image.png", "first"),
                (media, "media.video.hd.mp4", "second")):
            self.assertEqual(where.apply_async(exchange=exchange, routing_key=key).get(**GET), {
                "worker": worker, "exchange": exchange.name, "routing_key": key, "redelivered": False})

    def test_a_broadcast_task_runs_on_every_worker(self):
        everywhere.delay("broadcast")
        self.marked("broadcast.*", 2)
        self.assertEqual(marks("broadcast.*"), ["broadcast.first", "broadcast.second"])

    def test_chains_and_groups(self):
        # Chords are not among them: the rpc result backend has none.
        self.assertEqual(chain(add.s(1, 2), add.s(3), add.s(4)).delay().get(**GET), 10)
        self.assertEqual(
            group(add.s(number, number) for number in range(10)).delay().get(**GET), list(range(0, 20, 2)))
        self.assertEqual(chain(add.s(1, 2), group(add.s(10), add.s(20))).delay().get(**GET), [13, 23])

    def test_a_task_that_expired_leaves_the_queue(self):
        add.apply_async((1, 1), queue=name("nobody"), expires=1, ignore_result=True)
        self.assertEqual(self.ready(name("nobody")), 1)
        self.eventually(lambda: self.ready(name("nobody")) == 0, "expiry")

    def test_workers_answer_remote_control(self):
        hosts = {self.first.host, self.second.host}
        inspect = app.control.inspect(timeout=DEADLINE_SECONDS, limit=2)
        self.assertEqual(inspect.ping(), {host: {"ok": "pong"} for host in hosts})
        self.assertEqual(
            {queue["exchange"]["name"] for queue in inspect.active_queues()[self.second.host]},
            {name("media"), name("everybody")})
        [answer] = app.control.ping([self.second.host], timeout=DEADLINE_SECONDS, limit=1)
        self.assertEqual(answer, {self.second.host: {"ok": "pong"}})

    def test_a_worker_is_told_to_consume_from_one_more_queue(self):
        control = {"destination": [self.second.host], "reply": True, "timeout": DEADLINE_SECONDS, "limit": 1}
        result = where.apply_async(queue=name("nobody"))
        app.control.add_consumer(name("nobody"), **control)
        self.assertEqual(result.get(**GET)["worker"], "second")
        app.control.cancel_consumer(name("nobody"), **control)
        self.eventually(lambda: self.consumers(name("nobody")) == 0, "the cancelled consumer")

    def consumers(self, queue):
        return self.channel.queue_declare(queue, passive=True).method.consumer_count

    def test_events_tell_what_happens_to_tasks(self):
        seen = []
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": seen.append})
            with receiver.consumer_context() as (connection, _channel, _consumers):
                task = add.delay(20, 22)
                deadline = time.monotonic() + DEADLINE_SECONDS
                while ("task-succeeded", task.id) not in [(event["type"], event.get("uuid")) for event in seen]:
                    self.assertLess(time.monotonic(), deadline, seen)
                    connection.drain_events(timeout=DEADLINE_SECONDS)
        of_task = [(event["type"], event.get("result")) for event in seen if event.get("uuid") == task.id]
        self.assertEqual(of_task, [("task-received", None), ("task-started", None), ("task-succeeded", "42")])


class OneAtATime(Celery):
    """Workers that are given one task at a time."""

    def test_the_tasks_of_higher_priority_run_first(self):
        published = (("first", 1), ("second", 5), ("third", 9), ("fourth", 5))
        results = [turn.apply_async((task,), queue=name("urgent"), priority=priority) for task, priority in published]
        self.start("priorities", ["urgent"], *ONE_AT_A_TIME)
        self.assertEqual(
            max((result.get(**GET) for result in results), key=len), ["third", "second", "fourth", "first"])

    def test_a_task_of_a_killed_worker_goes_to_another(self):
        victim = self.start("victim", ["fragile"], "--pool=solo", *ONE_AT_A_TIME)
        results = [hold.apply_async(("killed", number), queue=name("fragile")) for number in range(2)]
        self.marked("killed.*.began", 1)
        self.assertEqual(self.ready(name("fragile")), 1, "its prefetch count is 1, and it acknowledges late")
        victim.kill()
        mark("killed.go")
        self.eventually(lambda: self.ready(name("fragile")) == 2, "the task it had")
        self.start("rescuer", ["fragile"], "--pool=solo", *ONE_AT_A_TIME)
        took_over, waiting = [result.get(**GET) for result in results]
        self.assertEqual((took_over["worker"], took_over["redelivered"]), ("rescuer", True))
        self.assertEqual((waiting["worker"], waiting["redelivered"]), ("rescuer", False))

    def test_the_prefetch_count_of_a_running_worker_grows_and_shrinks(self):
        if self.connection._impl.server_properties["product"] != "RabbitMQ":
            self.skipTest("kombu changes it only for a broker that calls its product RabbitMQ")
        worker = self.start("narrow", ["narrow"], *ONE_AT_A_TIME)
        control = {"destination": [worker.host], "reply": True, "timeout": DEADLINE_SECONDS, "limit": 1}
        queue = {"queue": name("narrow")}

        # Each task that waits for its time in the worker makes room for one more.
        started = time.time()
        later = [finished_at.apply_async(countdown=3, **queue) for _ in range(3)]
        at_once = finished_at.apply_async(**queue)
        first_of_later = min(result.get(**GET) for result in later)
        self.assertGreaterEqual(first_of_later, started + 3)
        self.assertLess(at_once.get(**GET), first_of_later, "it overtook those that wait")

        # Then the room goes again: of four late acknowledged tasks one is in the worker.
        inspect = app.control.inspect([worker.host], timeout=DEADLINE_SECONDS, limit=1)
        self.eventually(lambda: inspect.stats()[worker.host]["prefetch_count"] == 1, "the count of before")
        results = [hold.apply_async(("prefetched", number), **queue) for number in range(4)]
        self.eventually(lambda: self.ready(name("narrow")) == 3, "one task taken")
        app.control.pool_grow(1, **control)
        self.eventually(lambda: self.ready(name("narrow")) == 2, "two tasks taken")
        self.marked("prefetched.*.began", 2)
        self.assertEqual(self.ready(name("narrow")), 2)
        mark("prefetched.go")
        self.assertEqual([result.get(**GET)["worker"] for result in results], ["narrow"] * 4)


class NativeDelays(BrokerTest):
    """The 28 queues, each dead-lettering into the next, in which newer Celery keeps a task until its time."""

    def test_a_task_comes_after_its_delay_and_not_before(self):
        prefix = name("native")
        levels = [native_delayed_delivery.level_name(level, prefix) for level in range(28)]
        self.queues += levels
        self.exchanges += [*levels, f"{prefix}_celery_delayed_delivery", f"{prefix}.tasks"]
        self.queues.append(f"{prefix}.tasks")
        tasks = Queue(f"{prefix}.tasks", Exchange(f"{prefix}.tasks", type="topic"), routing_key="task")
        with Connection(AMQP_URI) as connection:
            native_delayed_delivery.declare_native_delayed_delivery_exchanges_and_queues(connection, "classic", prefix)
            tasks(connection.default_channel).declare()
            native_delayed_delivery.bind_queue_to_native_delayed_delivery_exchange(connection, tasks, prefix)
            published = time.monotonic()
            for seconds in (2, 1):
                connection.Producer().publish(
                    {"seconds": seconds}, exchange=levels[-1], delivery_mode=2,
                    routing_key=native_delayed_delivery.calculate_routing_key(seconds, "task"))
            came = []

            def take(body, message):
                came.append((body["seconds"], time.monotonic() - published))
                self.assertTrue(message.delivery_info["routing_key"].endswith(".task"))
                message.ack()

            with connection.Consumer(tasks, callbacks=[take]):
                while len(came) < 2:
                    connection.drain_events(timeout=DEADLINE_SECONDS)
        self.assertEqual([seconds for seconds, _ in came], [1, 2])
        for seconds, after in came:
            self.assertGreaterEqual(after, seconds)


if __name__ == "__main__":
    unittest.main()
