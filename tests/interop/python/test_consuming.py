import unittest

from support import BrokerTest, Inbox


class Consuming(BrokerTest):
    def test_messages_arrive_in_order_and_acknowledged_ones_are_gone(self):
        queue = self.queue()
        self.fill(queue, *(str(n).encode() for n in range(50)))
        inbox = Inbox(self.channel, queue)
        self.arrive(inbox, 50)
        self.assertEqual(inbox.bodies, [str(n).encode() for n in range(50)])
        self.assertEqual([inbox.delivery_tag(n) for n in range(50)], list(range(1, 51)))
        self.assertFalse(any(method.redelivered for method, _, _ in inbox.deliveries))
        self.channel.basic_ack(20)
        self.channel.basic_ack(50, multiple=True)
        self.channel.close()
        self.channel = self.connection.channel()
        self.assertEqual(self.take(queue), [])

    def test_acknowledging_tag_zero_multiple_settles_everything(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2", b"3")
        inbox = Inbox(self.channel, queue)
        self.arrive(inbox, 3)
        self.channel.basic_ack(0, multiple=True)
        self.channel.close()
        self.channel = self.connection.channel()
        self.assertEqual(self.take(queue), [])

    def test_acknowledging_an_unknown_or_settled_tag_is_406(self):
        queue = self.queue()
        self.fill(queue, b"1")
        self.channel.basic_get(queue)
        self.channel.basic_ack(1)
        self.channel.basic_ack(1)
        with self.closes_channel(406, "unknown delivery tag 1"):
            self.channel.queue_declare(queue, passive=True)

    def test_prefetch_bounds_what_a_consumer_holds(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2", b"3", b"4", b"5")
        self.channel.basic_qos(prefetch_count=2)
        inbox = Inbox(self.channel, queue)
        self.arrive(inbox, 2)
        self.assertEqual(self.ready(queue), 3)
        self.channel.basic_ack(inbox.delivery_tag(0))
        self.arrive(inbox, 3)
        self.assertEqual(self.ready(queue), 2)
        self.assertEqual(inbox.bodies, [b"1", b"2", b"3"])

    def test_prefetch_is_each_consumers_own(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2", b"3", b"4", b"5")
        self.channel.basic_qos(prefetch_count=1)
        first, second = Inbox(self.channel, queue), Inbox(self.channel, queue)
        self.eventually(lambda: len(first) + len(second) == 2, "one delivery each")
        self.assertEqual((len(first), len(second), self.ready(queue)), (1, 1, 3))

    def test_global_qos_is_shared_by_the_channels_consumers(self):
        queues = self.queue(), self.queue()
        for queue in queues:
            self.fill(queue, b"1", b"2", b"3")
        self.channel.basic_qos(prefetch_count=2, global_qos=True)
        inboxes = [Inbox(self.channel, queue) for queue in queues]
        held = lambda: sum(map(len, inboxes))
        self.eventually(lambda: held() == 2, "two deliveries for the channel")
        self.assertEqual(sum(map(self.ready, queues)), 4)
        self.channel.basic_qos(prefetch_count=5, global_qos=True)
        self.eventually(lambda: held() == 5, "more deliveries once the limit is raised")
        self.assertEqual(sum(map(self.ready, queues)), 1)
        self.channel.basic_ack(1)
        self.eventually(lambda: held() == 6, "the last one for an acknowledged one")

    def test_consumers_take_turns(self):
        queue = self.queue()
        self.channel.basic_qos(prefetch_count=10)
        inboxes = [Inbox(self.channel, queue) for _ in range(3)]
        self.fill(queue, *(b"job" for _ in range(30)))
        self.eventually(lambda: sum(map(len, inboxes)) == 30, "all deliveries")
        self.assertEqual([len(inbox) for inbox in inboxes], [10, 10, 10])

    def test_a_rejected_message_returns_to_its_place_and_is_flagged(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2", b"3", b"4")
        for _ in range(3):
            self.channel.basic_get(queue)
        self.channel.basic_nack(2, requeue=True)
        method, _, body = self.channel.basic_get(queue)
        self.assertEqual((body, method.redelivered), (b"2", True))
        method, _, body = self.channel.basic_get(queue)
        self.assertEqual((body, method.redelivered), (b"4", False))
        self.channel.basic_reject(3, requeue=True)
        self.channel.basic_nack(0, multiple=True, requeue=True)
        self.assertEqual(self.take(queue), [b"1", b"2", b"3", b"4"])

    def test_a_consumer_sees_its_requeued_message_again(self):
        queue = self.queue()
        self.fill(queue, b"job")
        inbox = Inbox(self.channel, queue)
        self.arrive(inbox, 1)
        self.channel.basic_nack(inbox.delivery_tag(0), requeue=True)
        self.arrive(inbox, 2)
        self.assertEqual(inbox.bodies, [b"job", b"job"])
        self.assertEqual([method.redelivered for method, _, _ in inbox.deliveries], [False, True])

    def test_rejecting_without_requeue_drops_the_message(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2", b"3")
        for _ in range(3):
            self.channel.basic_get(queue)
        self.channel.basic_reject(1, requeue=False)
        self.channel.basic_nack(3, multiple=True, requeue=False)
        self.channel.close()
        self.channel = self.connection.channel()
        self.assertEqual(self.take(queue), [])

    def test_recover_requeues_what_is_unacknowledged(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2")
        self.channel.basic_get(queue)
        self.channel.basic_get(queue)
        self.channel.basic_recover(requeue=True)
        self.assertEqual(self.ready(queue), 2)
        method, _, body = self.channel.basic_get(queue)
        self.assertEqual((body, method.redelivered), (b"1", True))

    def test_getting_tells_what_is_left_and_when_there_is_nothing(self):
        queue = self.queue()
        self.assertEqual(self.channel.basic_get(queue), (None, None, None))
        self.fill(queue, b"1", b"2", b"3")
        method, _, body = self.channel.basic_get(queue)
        self.assertEqual((body, method.message_count, method.redelivered), (b"1", 2, False))
        self.assertEqual((method.exchange, method.routing_key), ("", queue))
        self.channel.basic_ack(method.delivery_tag)
        self.assertEqual(self.channel.basic_get(queue, auto_ack=True)[0].message_count, 1)

    def test_deleting_a_queue_cancels_its_consumers(self):
        queue = self.queue()
        cancelled = []
        self.channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        inbox = Inbox(self.channel, queue)
        self.connection.channel().queue_delete(queue)
        self.eventually(lambda: cancelled, "the cancel notification")
        self.assertEqual(cancelled, [inbox.tag])
        self.assertTrue(self.channel.is_open)

    def test_a_cancelled_consumer_may_still_acknowledge(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2")
        self.channel.basic_qos(prefetch_count=1)
        inbox = Inbox(self.channel, queue)
        self.arrive(inbox, 1)
        self.channel.basic_cancel(inbox.tag)
        self.assertEqual(self.ready(queue), 1)
        self.channel.basic_ack(inbox.delivery_tag(0))
        self.assertEqual(self.take(queue), [b"2"])

    def test_the_consumer_with_the_higher_priority_is_served_first(self):
        queue = self.queue()
        self.channel.basic_qos(prefetch_count=2)
        low = Inbox(self.channel, queue)
        high = Inbox(self.channel, queue, arguments={"x-priority": 10})
        self.fill(queue, b"1", b"2", b"3")
        self.eventually(lambda: len(low) + len(high) == 3, "all deliveries")
        self.assertEqual(high.bodies, [b"1", b"2"])
        self.assertEqual(low.bodies, [b"3"])

    def test_an_exclusive_consumer_is_alone(self):
        queue = self.queue()
        inbox = Inbox(self.channel, queue, exclusive=True)
        with self.closes_channel(403, "exclusive use"):
            self.connection.channel().basic_consume(queue, print)
        self.channel.basic_cancel(inbox.tag)
        Inbox(self.channel, queue)

    def test_automatic_acknowledgement_leaves_nothing_to_requeue(self):
        queue = self.queue()
        self.fill(queue, b"1", b"2")
        inbox = Inbox(self.channel, queue, auto_ack=True)
        self.arrive(inbox, 2)
        self.channel.close()
        self.channel = self.connection.channel()
        self.assertEqual(self.take(queue), [])


if __name__ == "__main__":
    unittest.main()
