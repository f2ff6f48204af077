import unittest

from support import BrokerTest, Inbox, unique


class Queues(BrokerTest):
    def test_a_durable_queue_outlives_its_connection(self):
        connection = self.connect()
        queue = self.queue(channel=connection.channel())
        connection.close()
        self.assertEqual(self.ready(queue), 0)

    def test_declaring_reports_messages_and_consumers(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2")
        result = self.channel.queue_declare(queue, durable=True).method
        self.assertEqual((result.queue, result.message_count, result.consumer_count), (queue, 2, 0))
        Inbox(self.channel, queue)
        result = self.channel.queue_declare(queue, passive=True).method
        self.assertEqual(result.consumer_count, 1)

    def test_an_exclusive_queue_is_locked_for_others_and_goes_with_its_connection(self):
        owner = self.connect()
        queue = self.queue(channel=owner.channel(), durable=False, exclusive=True)
        with self.closes_channel(405, f"cannot obtain exclusive access to locked queue '{queue}'"):
            self.channel.queue_declare(queue, passive=True)
        with self.closes_channel(405):
            self.connection.channel().basic_consume(queue, print)
        owner.close()
        with self.closes_channel(404):
            self.connection.channel().queue_declare(queue, passive=True)

    def test_an_auto_delete_queue_goes_with_its_last_consumer(self):
        queue = self.queue(durable=False, auto_delete=True)
        self.assertEqual(self.ready(queue), 0)
        inbox = Inbox(self.channel, queue)
        other = Inbox(self.channel, queue)
        self.channel.basic_cancel(inbox.tag)
        self.assertEqual(self.ready(queue), 0)
        self.channel.basic_cancel(other.tag)
        with self.closes_channel(404):
            self.channel.queue_declare(queue, passive=True)

    def test_the_broker_names_a_queue_without_a_name(self):
        first = self.channel.queue_declare("", exclusive=True).method.queue
        second = self.channel.queue_declare("", exclusive=True).method.queue
        self.assertRegex(first, r"^amq\.gen-[A-Za-z0-9_-]{22}$")
        self.assertNotEqual(first, second)

    def test_an_empty_name_means_the_queue_declared_last(self):
        queue = self.queue()
        self.confirming_channel().basic_publish("", queue, b"mine")
        self.assertEqual(self.channel.basic_get("", auto_ack=True)[2], b"mine")

    def test_a_passive_declare_of_a_missing_queue_is_404_and_the_connection_survives(self):
        name = unique("missing")
        with self.closes_channel(404, f"NOT_FOUND - no queue '{name}' in vhost '"):
            self.channel.queue_declare(name, passive=True)
        self.assertTrue(self.connection.channel().is_open)

    def test_operations_on_a_missing_queue_are_404(self):
        name = unique("missing")
        for operation in (
            lambda channel: channel.basic_get(name),
            lambda channel: channel.basic_consume(name, print),
            lambda channel: channel.queue_purge(name),
            lambda channel: channel.queue_bind(name, "amq.direct", "key"),
        ):
            with self.closes_channel(404, name):
                operation(self.connection.channel())

    def test_an_inequivalent_redeclare_is_406_and_names_the_difference(self):
        queue = self.queue()
        with self.closes_channel(
            406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': "
                 "received 'false' but current is 'true'"):
            self.channel.queue_declare(queue)
        with self.closes_channel(406, "inequivalent arg 'auto_delete'"):
            self.connection.channel().queue_declare(queue, durable=True, auto_delete=True)

    def test_queue_names_starting_with_amq_are_reserved(self):
        with self.closes_channel(403):
            self.channel.queue_declare("amq.interop")

    def test_purging_empties_the_queue_and_says_how_many(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2", b"3")
        self.channel.basic_get(queue)
        self.assertEqual(self.channel.queue_purge(queue).method.message_count, 2)
        self.assertEqual(self.ready(queue), 0)
        self.channel.basic_nack(1)
        self.eventually(lambda: self.ready(queue) == 1, "the unacknowledged one was not purged")

    def test_deleting_says_how_many_and_again_is_no_error(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2")
        self.assertEqual(self.channel.queue_delete(queue).method.message_count, 2)
        self.assertEqual(self.channel.queue_delete(queue).method.message_count, 0)

    def test_delete_if_unused_spares_a_queue_with_consumers(self):
        queue = self.queue()
        inbox = Inbox(self.channel, queue)
        with self.closes_channel(406, "in use"):
            self.connection.channel().queue_delete(queue, if_unused=True)
        self.channel.basic_cancel(inbox.tag)
        self.channel.queue_delete(queue, if_unused=True)

    def test_delete_if_empty_spares_a_queue_with_messages(self):
        queue = self.queue()
        self.fill(queue, b"keep me")
        with self.closes_channel(406, "not empty"):
            self.connection.channel().queue_delete(queue, if_empty=True)
        self.assertEqual(self.take(queue), [b"keep me"])
        self.channel.queue_delete(queue, if_empty=True)


if __name__ == "__main__":
    unittest.main()
