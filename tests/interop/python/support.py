"""What every test here stands on: a connection of its own, names of its own, waits with a deadline."""

import os
import signal
import time
import unittest
import uuid
from contextlib import contextmanager

import pika

AMQP_URI = os.environ.get("AMQP_URI", "amqp://guest:guest@127.0.0.1:5672/")
DEADLINE_SECONDS = 15


def unique(name):
    """A name no other test, run or suite uses."""
    return f"interop.python.{name}.{uuid.uuid4().hex[:12]}"


def connect(**overrides):
    parameters = pika.URLParameters(AMQP_URI)
    for field, value in overrides.items():
        setattr(parameters, field, value)
    return pika.BlockingConnection(parameters)


class Inbox:
    """Collects what one consumer is given."""

    def __init__(self, channel, queue, **options):
        self.channel = channel
        self.deliveries = []
        self.tag = channel.basic_consume(queue, self._take, **options)

    def _take(self, _channel, method, properties, body):
        self.deliveries.append((method, properties, body))

    def __len__(self):
        return len(self.deliveries)

    @property
    def bodies(self):
        return [body for _, _, body in self.deliveries]

    def delivery_tag(self, index):
        return self.deliveries[index][0].delivery_tag


class BrokerTest(unittest.TestCase):
    """A connection and a channel for each test; durable things declared through it are deleted afterwards."""

    def setUp(self):
        # pika waits for an answer without end; a broker that owes one fails this test, not the whole run.
        signal.signal(signal.SIGALRM, self._too_long)
        signal.alarm(2 * DEADLINE_SECONDS)
        self.addCleanup(signal.alarm, 0)
        self.queues = []
        self.exchanges = []
        self.connection = self.connect()
        self.channel = self.connection.channel()
        self.addCleanup(self._delete_what_was_declared)

    def _too_long(self, *_):
        raise TimeoutError(f"{self.id()} took longer than {2 * DEADLINE_SECONDS} s")

    def _delete_what_was_declared(self):
        connection = connect()
        channel = connection.channel()
        for queue in self.queues:
            channel.queue_delete(queue)
        for exchange in self.exchanges:
            channel.exchange_delete(exchange)
        connection.close()

    def connect(self, **overrides):
        connection = connect(**overrides)
        self.addCleanup(lambda: connection.is_open and connection.close())
        return connection

    def queue(self, name="queue", channel=None, **options):
        options.setdefault("durable", True)
        queue = unique(name)
        self.queues.append(queue)
        (channel or self.channel).queue_declare(queue, **options)
        return queue

    def exchange(self, exchange_type, **options):
        exchange = unique(exchange_type)
        self.exchanges.append(exchange)
        self.channel.exchange_declare(exchange, exchange_type, **options)
        return exchange

    def confirming_channel(self):
        """Publishing on it returns once the broker has confirmed, and raises when it returned the message."""
        channel = self.connection.channel()
        channel.confirm_delivery()
        return channel

    def fill(self, queue, *bodies):
        channel = self.confirming_channel()
        for body in bodies:
            channel.basic_publish("", queue, body)
        channel.close()

    def ready(self, queue):
        return self.channel.queue_declare(queue, passive=True).method.message_count

    def take(self, queue, channel=None):
        """The bodies ready in the queue, which is left empty."""
        channel = channel or self.channel
        bodies = []
        while True:
            method, _, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return bodies
            bodies.append(body)

    def eventually(self, condition, what, connection=None):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"not within {DEADLINE_SECONDS} s: {what}")
            (connection or self.connection).process_data_events(time_limit=0.02)

    def arrive(self, inbox, count):
        self.eventually(lambda: len(inbox) >= count, f"{count} deliveries")

    @contextmanager
    def closes_channel(self, code, text=""):
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as caught:
            yield
        self.assertEqual(caught.exception.reply_code, code, caught.exception.reply_text)
        self.assertIn(text, caught.exception.reply_text)
        self.assertTrue(self.connection.is_open, "a channel error must leave the connection open")
