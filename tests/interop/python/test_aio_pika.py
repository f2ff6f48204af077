"""aio-pika, the asyncio client, in the ways that differ from pika: everything at once on one connection."""

import asyncio
import unittest

import aio_pika

from support import AMQP_URI, DEADLINE_SECONDS, unique


class AioPika(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.connection = await asyncio.wait_for(aio_pika.connect_robust(AMQP_URI), DEADLINE_SECONDS)
        self.addAsyncCleanup(self.connection.close)
        # With confirms, which aio-pika turns on by itself.
        self.channel = await self.connection.channel(on_return_raises=True)

    async def test_many_publishes_at_once_are_all_confirmed_and_arrive_in_order(self):
        queue = await self.channel.declare_queue(unique("aio"), exclusive=True)
        await self.channel.set_qos(prefetch_count=10)
        sent = [str(n).encode() for n in range(200)]
        await asyncio.gather(*(
            self.channel.default_exchange.publish(aio_pika.Message(body), queue.name, timeout=DEADLINE_SECONDS)
            for body in sent))
        received = []
        async with queue.iterator(timeout=DEADLINE_SECONDS) as messages:
            async for message in messages:
                async with message.process():
                    received.append(message.body)
                if len(received) == len(sent):
                    break
        self.assertEqual(received, sent)

    async def test_a_job_that_raises_is_requeued_and_flagged(self):
        queue = await self.channel.declare_queue(unique("aio"), exclusive=True)
        await self.channel.default_exchange.publish(aio_pika.Message(b"job"), queue.name)
        first = await queue.get(timeout=DEADLINE_SECONDS)
        with self.assertRaises(ValueError):
            async with first.process(requeue=True):
                raise ValueError("the job failed")
        second = await queue.get(timeout=DEADLINE_SECONDS)
        await second.ack()
        self.assertEqual((first.redelivered, second.redelivered), (False, True))

    async def test_an_unroutable_message_raises(self):
        with self.assertRaises(aio_pika.exceptions.DeliveryError):
            await self.channel.default_exchange.publish(
                aio_pika.Message(b"back"), unique("missing"), timeout=DEADLINE_SECONDS)

    async def test_a_missing_queue_closes_the_channel_only(self):
        with self.assertRaisesRegex(aio_pika.exceptions.ChannelNotFoundEntity, "no queue"):
            await self.channel.get_queue(unique("missing"))
        other = await self.connection.channel()
        await other.declare_queue(unique("aio"), exclusive=True)


if __name__ == "__main__":
    unittest.main()
