"""What applications on MassTransit rely on: its topology, its error queues, its requests, its schedules."""

import time
import unittest
import uuid

import pika

from masstransit import CONTENT_TYPE, REPLY_TO, Bus, Endpoint, MessageType
from support import BrokerTest, Inbox, connect, unique


def features():
    """Whether the broker is RabbitMQ itself, and has quorum queues: what a broker does not claim is skipped."""
    connection = connect()
    # The product says less: a broker that takes RabbitMQ's place may take its name.
    is_rabbitmq = connection._impl.server_properties["platform"].startswith("Erlang")
    channel = connection.channel()
    queue = unique("probe")
    try:
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_delete(queue)
        quorum = True
    except pika.exceptions.ChannelClosedByBroker:
        quorum = False
    connection.close()
    return is_rabbitmq, quorum


class MassTransit(BrokerTest):
    @classmethod
    def setUpClass(cls):
        cls.is_rabbitmq, cls.has_quorum_queues = features()

    def setUp(self):
        super().setUp()
        self.namespace = f"Interop.N{uuid.uuid4().hex[:12]}"
        self.exchanges.append("MassTransit:Fault")
        event = self.message_type("Event")
        order_event = self.message_type("OrderEvent", event)
        self.event, self.order_event = event, order_event
        self.submitted = self.message_type("OrderSubmitted", order_event)
        self.cancelled = self.message_type("OrderCancelled", order_event)
        self.bus = Bus(self.connection)

    def message_type(self, name, *implements):
        message_type = MessageType(self.namespace, name, *implements)
        self.exchanges += [message_type.exchange, message_type.fault_exchange]
        return message_type

    def endpoint(self, name, **options):
        endpoint = Endpoint(f"{name}-{uuid.uuid4().hex[:12]}", **options)
        names = [endpoint.name, f"{endpoint.name}_error", f"{endpoint.name}_skipped"]
        self.queues += names
        self.exchanges += [*names, f"{endpoint.name}_delay"]
        return endpoint

    def collect(self, endpoint, *message_types, bus=None):
        deliveries = []
        (bus or self.bus).subscribe(endpoint, *[(each, deliveries.append) for each in message_types])
        return deliveries

    def gets(self, deliveries, *numbers):
        """Checks the orders that came, in the order in which they were sent, and that no more comes."""
        self.arrive(deliveries, len(numbers))
        self.settle()
        self.assertEqual([each.message["order"] for each in deliveries], list(numbers))

    def settle(self):
        """Has every delivery handled that the broker had sent before."""
        self.channel.basic_qos()
        self.connection.process_data_events(time_limit=0)

    def only(self, queue):
        """The one message in the queue."""
        self.eventually(lambda: self.holds(queue, 1), f"a message in {queue}")
        return self.channel.basic_get(queue, auto_ack=True)

    def holds(self, queue, count):
        """Whether the queue is there, with so many messages."""
        channel = self.connection.channel()
        try:
            return channel.queue_declare(queue, passive=True).method.message_count == count
        except pika.exceptions.ChannelClosedByBroker as closed:
            self.assertEqual(closed.reply_code, 404, closed.reply_text)
            return False
        finally:
            if channel.is_open:
                channel.close()


class Publishing(MassTransit):
    def test_a_message_reaches_those_that_want_it_or_what_it_implements_once_each(self):
        concrete = self.collect(self.endpoint("billing"), self.submitted)
        base = self.collect(self.endpoint("audit"), self.event)
        other = self.collect(self.endpoint("refunds"), self.cancelled)
        # Two ways lead to this queue, and one copy comes.
        both = []
        self.bus.subscribe(
            self.endpoint("search"), (self.submitted, both.append), (self.order_event, lambda delivery: None))
        self.bus.publish(self.submitted, {"order": 1})
        self.bus.publish(self.cancelled, {"order": 2})
        self.gets(concrete, 1)
        self.gets(other, 2)
        self.gets(base, 1, 2)
        self.gets(both, 1)
        self.assertEqual(concrete[0].method.exchange, self.submitted.exchange)
        self.assertEqual(base[0].method.exchange, self.submitted.exchange)
        self.assertEqual(base[0].properties.content_type, CONTENT_TYPE)
        self.assertFalse(base[0].method.redelivered)

    def test_publishing_before_anybody_listens_is_confirmed_and_forgotten(self):
        self.bus.publish(self.submitted, {"order": 1})
        late = self.collect(self.endpoint("late"), self.submitted)
        self.bus.publish(self.submitted, {"order": 2})
        self.gets(late, 2)

    def test_instances_of_one_service_declare_the_same_and_share_the_messages(self):
        endpoint = self.endpoint("shared", prefetch_count=4)
        first = self.collect(endpoint, self.submitted, self.cancelled)
        second = self.collect(endpoint, self.submitted, self.cancelled, bus=Bus(self.connection))
        for order in range(40):
            self.bus.publish(self.submitted, {"order": order})
        self.eventually(lambda: len(first) + len(second) >= 40, "40 messages")
        self.assertEqual(sorted(each.message["order"] for each in first + second), list(range(40)))
        self.assertTrue(first and second, "both instances work")

    def test_what_an_instance_that_went_away_had_not_finished_goes_to_another(self):
        endpoint = self.endpoint("crash", prefetch_count=2)
        lost = self.connect()
        begun = []

        def crash(delivery):
            begun.append(delivery.message["order"])
            raise SystemExit

        Bus(lost).subscribe(endpoint, (self.submitted, crash))
        for order in (1, 2, 3):
            self.bus.publish(self.submitted, {"order": order})
        with self.assertRaises(SystemExit):
            self.eventually(lambda: begun, "a message", connection=lost)
        lost.close()
        taken = self.collect(endpoint, self.submitted)
        self.gets(taken, 1, 2, 3)
        self.assertEqual(begun, [1])
        self.assertTrue(taken[0].method.redelivered)
        self.assertFalse(taken[2].method.redelivered, "it was beyond the prefetch count")

    def test_a_message_is_sent_to_one_endpoint(self):
        endpoint = self.endpoint("commands")
        sent = self.collect(endpoint, self.submitted)
        published = self.collect(self.endpoint("events"), self.submitted)
        self.bus.send(endpoint, self.submitted, {"order": 1}, mandatory=True)
        self.gets(sent, 1)
        self.gets(published)

    def test_a_mandatory_message_to_an_endpoint_without_a_queue_is_returned(self):
        with self.assertRaises(pika.exceptions.UnroutableError) as caught:
            self.bus.send(self.endpoint("nobody"), self.submitted, {"order": 1}, mandatory=True)
        [returned] = caught.exception.messages
        self.assertEqual((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
        self.assertEqual(returned.properties.content_type, CONTENT_TYPE)

    def test_a_message_whose_time_to_live_passed_is_not_consumed(self):
        endpoint = self.endpoint("late")
        endpoint.topology([self.submitted]).deploy(self.channel)
        self.bus.publish(self.submitted, {"order": 1}, time_to_live_ms=50)
        self.eventually(lambda: self.ready(endpoint.name) == 0, "expiry")
        self.bus.publish(self.submitted, {"order": 2}, time_to_live_ms=60_000)
        taken = self.collect(endpoint, self.submitted)
        self.gets(taken, 2)
        self.assertEqual(taken[0].properties.expiration, "60000")

    def test_a_queue_that_nobody_uses_expires_with_the_endpoint(self):
        endpoint = self.endpoint("gone", queue_arguments={"x-expires": 300})
        receiver = self.bus.subscribe(endpoint, (self.submitted, lambda delivery: None))
        receiver.stop()
        self.eventually(lambda: not self.reached(endpoint.name), "expiry of the queue")

    def reached(self, queue):
        """Whether a message reaches the queue, which is not a use of it; a declare would be."""
        channel = self.confirming_channel()
        try:
            channel.basic_publish("", queue, b"", mandatory=True)
            return True
        except pika.exceptions.UnroutableError:
            return False
        finally:
            channel.close()

    def test_a_quorum_endpoint_keeps_its_faults_in_a_quorum_queue(self):
        if not self.has_quorum_queues:
            self.skipTest("this broker has no quorum queues")
        endpoint = self.endpoint("quorum").quorum(1)

        def fail(delivery):
            raise ValueError("never")

        self.bus.subscribe(endpoint, (self.submitted, fail))
        self.bus.publish(self.submitted, {"order": 1})
        _, properties, _ = self.only(f"{endpoint.name}_error")
        self.assertEqual(properties.headers["MT-Fault-Message"], "never")


class Faults(MassTransit):
    def test_a_message_that_fails_once_is_retried_where_it_is(self):
        endpoint = self.endpoint("flaky", retries=2)
        attempts = []

        def fail_twice(delivery):
            attempts.append(delivery.message["order"])
            if len(attempts) < 3:
                raise ValueError("not yet")

        self.bus.subscribe(endpoint, (self.submitted, fail_twice))
        self.bus.publish(self.submitted, {"order": 1})
        self.eventually(lambda: len(attempts) == 3, "three attempts")
        self.settle()
        self.assertEqual((attempts, self.ready(endpoint.name)), ([1, 1, 1], 0))

    def test_a_message_that_always_fails_ends_in_the_error_queue_as_it_was_sent(self):
        endpoint = self.endpoint("broken", retries=1)
        faults = self.queue("faults")

        def fail(delivery):
            raise ValueError("no such customer")

        self.bus.subscribe(endpoint, (self.submitted, fail))
        self.channel.exchange_declare(self.submitted.fault_exchange, "fanout", durable=True)
        self.channel.queue_bind(faults, self.submitted.fault_exchange)
        message_id = self.bus.publish(
            self.submitted, {"order": 7}, correlation_id="c-7", time_to_live_ms=60_000, headers={"tenant": "acme"})

        method, properties, body = self.only(f"{endpoint.name}_error")
        self.assertEqual(method.exchange, f"{endpoint.name}_error")
        self.assertIn(b'"order": 7', body)
        self.assertEqual(
            (properties.message_id, properties.correlation_id, properties.content_type, properties.delivery_mode),
            (message_id, "c-7", CONTENT_TYPE, 2))
        self.assertIsNone(properties.expiration, "what is in the error queue stays")
        self.assertEqual(properties.headers["tenant"], "acme")
        self.assertEqual(
            {name: properties.headers[f"MT-{name}"] for name in (
                "Reason", "Fault-ExceptionType", "Fault-Message", "Fault-InputAddress", "Fault-RetryCount")},
            {"Reason": "fault", "Fault-ExceptionType": "ValueError", "Fault-Message": "no such customer",
             "Fault-InputAddress": endpoint.address, "Fault-RetryCount": 1})
        self.assertIn(message_id.encode(), self.only(faults)[2])
        self.assertEqual(self.ready(endpoint.name), 0)

    def test_a_message_nobody_there_understands_ends_in_the_skipped_queue(self):
        endpoint = self.endpoint("narrow")
        taken = self.collect(endpoint, self.submitted)
        self.bus.send(endpoint, self.cancelled, {"order": 1})
        self.bus.send(endpoint, self.submitted, {"order": 2})
        self.gets(taken, 2)
        _, properties, body = self.only(f"{endpoint.name}_skipped")
        self.assertEqual(properties.headers["MT-Reason"], "dead-letter")
        self.assertIn(b'"order": 1', body)

    def test_the_error_queue_can_be_moved_back(self):
        # As a shovel and every tool for error queues do.
        endpoint = self.endpoint("repaired")
        broken = [True]
        done = []

        def work(delivery):
            if broken:
                raise ValueError("down")
            done.append(delivery)

        self.bus.subscribe(endpoint, (self.submitted, work))
        for order in (1, 2):
            self.bus.publish(self.submitted, {"order": order})
        error_queue = f"{endpoint.name}_error"
        self.eventually(lambda: self.holds(error_queue, 2), "two faults")
        broken.clear()
        mover = self.confirming_channel()
        errors = Inbox(mover, error_queue)
        self.arrive(errors, 2)
        for method, properties, body in errors.deliveries:
            mover.basic_publish("", endpoint.name, body, properties)
            mover.basic_ack(method.delivery_tag)
        self.gets(done, 1, 2)
        self.assertEqual(done[0].properties.headers["MT-Reason"], "fault")


class Requests(MassTransit):
    def setUp(self):
        super().setUp()
        self.request = self.message_type("CheckStock")
        self.response = self.message_type("Stock")
        self.service = self.endpoint("stock")
        self.server = Bus(self.connection)
        self.server.subscribe(self.service, (self.request, lambda delivery: self.server.answer(
            delivery, self.response, {"order": delivery.message["order"], "in_stock": 3})))

    def ask(self, order, **options):
        request_id = str(uuid.uuid4())
        self.bus.publish(self.request, {"order": order}, request_id=request_id, mandatory=True, **options)
        return request_id

    def test_answers_come_to_the_temporary_queue_of_the_one_that_asked(self):
        endpoints = [Endpoint.bus(f"host_interop_bus_{uuid.uuid4().hex}") for _ in range(2)]
        answers = [self.collect(endpoint, self.response) for endpoint in endpoints]
        for order in range(6):
            endpoint = endpoints[order % 2]
            request_id = self.ask(order, response_address=endpoint.address)
        self.eventually(lambda: len(answers[0]) + len(answers[1]) >= 6, "six answers")
        self.assertEqual([each.message["order"] for each in answers[0]], [0, 2, 4])
        self.assertEqual([each.message["order"] for each in answers[1]], [1, 3, 5])
        self.assertEqual(answers[1][-1].envelope["requestId"], request_id)

    def test_the_temporary_queue_and_its_exchange_go_with_the_one_that_asked(self):
        endpoint = Endpoint.bus(f"host_interop_bus_{uuid.uuid4().hex}")
        client = self.connect()
        Bus(client).subscribe(endpoint, (self.response, lambda delivery: None))
        self.channel.queue_declare(endpoint.name, passive=True)
        client.close()
        with self.closes_channel(404, f"no queue '{endpoint.name}'"):
            self.connection.channel().queue_declare(endpoint.name, passive=True)
        with self.closes_channel(404, f"no exchange '{endpoint.name}'"):
            self.connection.channel().exchange_declare(endpoint.name, passive=True)

    def test_an_answer_that_comes_too_late_is_dropped_and_the_service_goes_on(self):
        gone = Endpoint.bus(f"host_interop_bus_{uuid.uuid4().hex}")
        answers = []
        endpoint = Endpoint.bus(f"host_interop_bus_{uuid.uuid4().hex}")
        self.bus.subscribe(endpoint, (self.response, answers.append))
        self.ask(1, response_address=gone.address)
        self.ask(2, response_address=endpoint.address)
        self.gets(answers, 2)
        self.channel.exchange_delete(gone.name)

    def test_answers_come_straight_through_reply_to(self):
        answers = []
        # The request client of this kind asks on the channel on which it consumes the answers.
        self.bus.channel.basic_consume(REPLY_TO, lambda _c, _m, _p, body: answers.append(body), auto_ack=True)
        for order in (1, 2):
            self.ask(order, reply_to=REPLY_TO, response_address=f"rabbitmq://localhost/{REPLY_TO}")
        self.eventually(lambda: len(answers) == 2, "two answers")
        self.assertIn(b'"order": 1', answers[0])
        self.assertIn(b'"order": 2', answers[1])

    def test_a_request_to_a_service_that_was_never_there_is_returned(self):
        unknown = self.message_type("CheckNothing")
        with self.assertRaises(pika.exceptions.UnroutableError):
            self.bus.publish(unknown, {"order": 1}, request_id=str(uuid.uuid4()), mandatory=True)


class Schedules(MassTransit):
    """UseDelayedMessageScheduler and UseDelayedRedelivery, which need the exchange type x-delayed-message."""

    def setUp(self):
        super().setUp()
        if self.is_rabbitmq:
            self.skipTest("RabbitMQ as it comes has no x-delayed-message")

    def test_scheduled_messages_come_in_the_order_of_their_times(self):
        endpoint = self.endpoint("reminders")
        taken = self.collect(endpoint, self.submitted)
        for order, delay_ms in ((1, 900), (2, 300), (3, None)):
            self.bus.send(endpoint, self.submitted, {"order": order}, delay_ms=delay_ms)
        self.gets(taken, 3)
        self.eventually(lambda: len(taken) == 3, "the delayed messages")
        self.gets(taken, 3, 2, 1)
        self.assertEqual(taken[1].method.exchange, f"{endpoint.name}_delay")

    def test_a_published_message_is_scheduled_for_all_that_subscribe(self):
        first = self.collect(self.endpoint("first"), self.submitted)
        second = self.collect(self.endpoint("second"), self.event)
        self.exchanges.append(f"{self.submitted.exchange}_delay")
        published = time.monotonic()
        self.bus.publish(self.submitted, {"order": 1}, delay_ms=300)
        self.gets(first, 1)
        self.assertGreaterEqual(time.monotonic(), published + 0.3)
        self.gets(second, 1)

    def test_a_failed_message_is_redelivered_later_and_ends_in_the_error_queue(self):
        endpoint = self.endpoint("later", retries=1, redeliver_after_ms=(100, 200))
        attempts = []

        def fail(delivery):
            attempts.append(delivery.redelivery_count)
            raise ValueError("still down")

        self.bus.subscribe(endpoint, (self.submitted, fail))
        published = time.monotonic()
        self.bus.publish(self.submitted, {"order": 1})
        self.eventually(lambda: len(attempts) == 6, "six attempts")
        self.assertGreaterEqual(time.monotonic(), published + 0.3, "of which two came after delays")
        _, properties, _ = self.only(f"{endpoint.name}_error")
        self.assertEqual(attempts, [0, 0, 1, 1, 2, 2])
        self.assertEqual(properties.headers["MT-Redelivery-Count"], 2)
        self.assertEqual(properties.headers["MT-Fault-Message"], "still down")


if __name__ == "__main__":
    unittest.main()
