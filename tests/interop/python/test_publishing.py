import unittest
from datetime import datetime, timezone
from decimal import Decimal

import pika

from support import BrokerTest, Inbox, unique

PATTERN = bytes(range(251))  # 251 is prime, so a misplaced frame shows


def body_of(size):
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


class Publishing(BrokerTest):
    def test_a_confirmed_message_is_in_the_queue(self):
        queue = self.queue()
        channel = self.confirming_channel()
        for number in range(100):
            channel.basic_publish(
                "", queue, str(number), pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent))
        self.assertEqual(self.ready(queue), 100)

    def test_an_unroutable_message_is_confirmed_when_it_is_not_mandatory(self):
        self.confirming_channel().basic_publish("", unique("missing"), b"dropped")

    def test_a_mandatory_unroutable_message_is_returned_before_its_confirm(self):
        name = unique("missing")
        channel = self.confirming_channel()
        # pika raises this only if the return was there when the confirm arrived.
        with self.assertRaises(pika.exceptions.UnroutableError) as caught:
            channel.basic_publish("", name, b"back", pika.BasicProperties(message_id="7"), mandatory=True)
        returned, = caught.exception.messages
        self.assertEqual((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
        self.assertEqual((returned.method.exchange, returned.method.routing_key), ("", name))
        self.assertEqual((returned.properties.message_id, returned.body), ("7", b"back"))

    def test_a_mandatory_message_is_returned_without_confirms_too(self):
        returned = []
        self.channel.add_on_return_callback(lambda *args: returned.append(args[-1]))
        self.channel.basic_publish("", unique("missing"), b"back", mandatory=True)
        self.eventually(lambda: returned == [b"back"], "the return")

    def test_a_megabyte_arrives_unchanged(self):
        queue, body = self.queue(), body_of(1024 * 1024)
        self.fill(queue, body)
        inbox = Inbox(self.channel, queue, auto_ack=True)
        self.arrive(inbox, 1)
        self.assertEqual(inbox.bodies[0], body)

    def test_a_large_body_through_a_fanout_reaches_three_queues_unchanged(self):
        exchange, body = self.exchange("fanout"), body_of(140_000)
        queues = [self.queue() for _ in range(3)]
        for queue in queues:
            self.channel.queue_bind(queue, exchange)
        self.confirming_channel().basic_publish(exchange, "", body)
        self.assertEqual([self.take(queue) for queue in queues], [[body]] * 3)

    def test_bodies_around_the_frame_size_arrive_unchanged(self):
        queue = self.queue()
        frame_max = self.connection._impl.params.frame_max
        bodies = [body_of(size) for size in (1, frame_max - 9, frame_max - 8, frame_max - 7, 2 * (frame_max - 8))]
        self.fill(queue, *bodies)
        self.assertEqual(self.take(queue), bodies)

    def test_an_empty_body_arrives_empty(self):
        queue = self.queue()
        self.fill(queue, b"", b"next")
        self.assertEqual(self.take(queue), [b"", b"next"])

    def test_all_properties_and_header_types_arrive_unchanged(self):
        queue = self.queue()
        headers = {
            "text": "grüße", "empty": "", "bytes": b"\x00\xff", "true": True, "false": False,
            "int": 7, "negative": -7, "int32": 2**31 - 1, "int64": 2**40, "int64 minimum": -(2**63),
            "decimal": Decimal("3.14"), "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "nothing": None,
            "list": [1, "two", None, [True, {"deep": "yes"}]], "table": {"a": 1, "b": {"c": "d"}}, "empty table": {},
        }
        sent = pika.BasicProperties(
            content_type="application/json", content_encoding="gzip", headers=headers, delivery_mode=2, priority=5,
            correlation_id="correlation", reply_to="somewhere", message_id="id", timestamp=1_700_000_000,
            type="kind", user_id=self.user(), app_id="application", cluster_id="cluster")
        self.confirming_channel().basic_publish("", queue, b"{}", sent)
        _, received, _ = self.channel.basic_get(queue, auto_ack=True)
        self.assertEqual(received.headers, headers)
        self.assertEqual(received, sent)

    def user(self):
        return self.connection._impl.params.credentials.username

    def test_no_properties_stay_no_properties(self):
        queue = self.queue()
        self.fill(queue, b"plain")
        self.assertEqual(self.channel.basic_get(queue, auto_ack=True)[1], pika.BasicProperties())

    def test_somebody_elses_user_id_is_406(self):
        with self.closes_channel(406, "user_id property set to 'somebody' but authenticated user was"):
            self.confirming_channel().basic_publish("", self.queue(), b"", pika.BasicProperties(user_id="somebody"))

    def test_cc_and_bcc_headers_add_routing_keys(self):
        to, cc, bcc = self.queue(), self.queue(), self.queue()
        self.confirming_channel().basic_publish(
            "", to, b"copied", pika.BasicProperties(headers={"CC": [cc], "BCC": [bcc], "other": 1}))
        for queue in (to, cc, bcc):
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            self.assertEqual((body, method.routing_key), (b"copied", to))
            self.assertEqual(properties.headers, {"CC": [cc], "other": 1})

    def test_one_rpc_through_direct_reply_to(self):
        requests = self.queue()
        server, client = self.connect(), self.channel

        def serve(channel, method, properties, body):
            channel.basic_publish("", properties.reply_to, body.upper(), pika.BasicProperties(
                correlation_id=properties.correlation_id))
            channel.basic_ack(method.delivery_tag)

        server.channel().basic_consume(requests, serve)
        answers = Inbox(client, "amq.rabbitmq.reply-to", auto_ack=True)
        for number in range(3):
            client.basic_publish("", requests, b"hello", pika.BasicProperties(
                reply_to="amq.rabbitmq.reply-to", correlation_id=str(number)))
            self.eventually(lambda: server.process_data_events(0) or len(answers) == number + 1, "the answer")
            _, properties, body = answers.deliveries[-1]
            self.assertEqual((body, properties.correlation_id), (b"HELLO", str(number)))

    def test_asking_for_a_direct_reply_without_a_consumer_is_406(self):
        with self.closes_channel(406, "fast reply consumer does not exist"):
            self.confirming_channel().basic_publish(
                "", self.queue(), b"", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))


class Transactions(BrokerTest):
    def test_committed_publishes_appear_and_rolled_back_ones_do_not(self):
        queue = self.queue()
        writer = self.connection.channel()
        writer.tx_select()
        writer.basic_publish("", queue, b"1")
        writer.basic_publish("", queue, b"2")
        self.assertEqual(self.ready(queue), 0)
        writer.tx_commit()
        self.assertEqual(self.ready(queue), 2)
        writer.basic_publish("", queue, b"3")
        writer.tx_rollback()
        writer.tx_commit()
        self.assertEqual(self.take(queue), [b"1", b"2"])

    def test_acknowledgements_wait_for_the_commit(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2")
        for end, left in (("tx_rollback", [b"1", b"2"]), ("tx_commit", [b"2"])):
            worker = self.connection.channel()
            worker.tx_select()
            worker.basic_ack(worker.basic_get(queue)[0].delivery_tag)
            getattr(worker, end)()
            worker.close()
            self.eventually(lambda: self.ready(queue) == len(left), f"{left} after {end}")
        self.assertEqual(self.take(queue), [b"2"])

    def test_committing_without_a_transaction_is_406(self):
        with self.closes_channel(406):
            self.channel.tx_commit()

    def test_a_channel_has_transactions_or_confirms_but_not_both(self):
        self.channel.tx_select()
        with self.closes_channel(406):
            self.channel.confirm_delivery()


if __name__ == "__main__":
    unittest.main()
