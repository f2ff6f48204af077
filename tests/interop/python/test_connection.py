import socket
import time
import unittest

import pika

from support import BrokerTest, Inbox, connect


class Connecting(BrokerTest):
    def test_plain_login_opens_a_connection_that_closes_cleanly(self):
        connection = self.connect()
        self.assertTrue(connection.is_open)
        connection.close()
        self.assertTrue(connection.is_closed)

    def test_the_broker_names_itself_and_its_capabilities(self):
        properties = self.connection._impl.server_properties
        for field in ("product", "version", "platform", "cluster_name"):
            self.assertIsInstance(properties[field], str)
        for capability in (
            "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
            "connection.blocked", "consumer_priorities", "authentication_failure_close",
            "per_consumer_qos", "direct_reply_to",
        ):
            self.assertIs(properties["capabilities"][capability], True, capability)

    def test_a_wrong_password_is_refused_with_403(self):
        with self.assertRaises(pika.exceptions.ProbableAuthenticationError) as caught:
            connect(credentials=pika.PlainCredentials("guest", "not the password"))
        self.assertIn("403", str(caught.exception))
        self.assertIn("ACCESS_REFUSED", str(caught.exception))

    def test_a_vhost_that_does_not_exist_is_refused_with_530(self):
        with self.assertRaises(pika.exceptions.AMQPConnectionError) as caught:
            connect(virtual_host="interop-no-such-vhost")
        self.assertRegex(str(caught.exception), r"\(530\) .*vhost interop-no-such-vhost not found")

    def test_the_clients_heartbeat_stands(self):
        for asked in (0, 17, 600):
            connection = self.connect(heartbeat=asked)
            self.assertEqual(connection._impl.params.heartbeat, asked)

    def test_without_a_wish_the_clients_get_the_brokers_heartbeat(self):
        self.assertGreater(self.connect(heartbeat=None)._impl.params.heartbeat, 0)

    def test_an_idle_connection_receives_heartbeats_and_stays_open(self):
        connection = self.connect(heartbeat=2)
        checker = connection._impl._heartbeat_checker
        started = time.monotonic()
        self.eventually(
            lambda: checker._heartbeat_frames_received >= 3 and time.monotonic() - started > 5,
            "three heartbeats and more than two idle intervals", connection)
        self.assertTrue(connection.is_open)

    def test_a_smaller_frame_size_is_accepted_and_large_bodies_still_fit(self):
        connection = self.connect(frame_max=4096)
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True).method.queue
        body = bytes(range(256)) * 100
        channel.basic_publish("", queue, body)
        self.assertEqual(self.take(queue, channel), [body])


class Channels(BrokerTest):
    def test_many_channels_work_side_by_side(self):
        channels = [self.connection.channel() for _ in range(200)]
        queue = self.queue()
        for number, channel in enumerate(channels):
            channel.basic_publish("", queue, str(number))
        for channel in channels:
            channel.close()
        self.eventually(lambda: self.ready(queue) == 200, "one message from each channel")
        self.assertEqual(sorted(map(int, self.take(queue))), list(range(200)))

    def test_a_channel_number_can_be_opened_again_after_an_error(self):
        for _ in range(3):
            channel = self.connection.channel(channel_number=33)
            with self.closes_channel(404):
                channel.queue_declare("interop-no-such-queue", passive=True)
            self.assertTrue(channel.is_closed)
        channel = self.connection.channel(channel_number=33)
        self.assertTrue(channel.queue_declare("", exclusive=True).method.queue)

    def test_an_error_on_one_channel_leaves_the_others_working(self):
        other = self.connection.channel()
        with self.closes_channel(404):
            self.channel.exchange_declare("interop-no-such-exchange", passive=True)
        self.assertTrue(other.queue_declare("", exclusive=True).method.queue)

    def test_a_closed_channel_gives_its_unacknowledged_messages_back(self):
        queue = self.queue()
        self.fill(queue, b"job")
        worker = self.connection.channel()
        worker.basic_get(queue)
        worker.close()
        self.eventually(lambda: self.ready(queue) == 1, "the message back in its queue")
        method, _, body = self.channel.basic_get(queue, auto_ack=True)
        self.assertEqual((body, method.redelivered), (b"job", True))

    def test_a_lost_connection_gives_its_unacknowledged_messages_back(self):
        queue = self.queue()
        self.fill(queue, b"job")
        worker = self.connect()
        channel = worker.channel()
        inbox = Inbox(channel, queue)
        self.eventually(lambda: len(inbox) == 1, "the delivery", worker)
        worker._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # goes without a goodbye
        with self.assertRaises(pika.exceptions.AMQPConnectionError):
            channel.queue_declare(queue, passive=True)
        self.eventually(lambda: self.ready(queue) == 1, "the message back in its queue")
        self.assertTrue(self.channel.basic_get(queue, auto_ack=True)[0].redelivered)


if __name__ == "__main__":
    unittest.main()
