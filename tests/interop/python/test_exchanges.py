import unittest

import pika

from support import BrokerTest, unique


class Exchanges(BrokerTest):
    def routed(self, exchange, binding_arguments, published):
        """Binds a queue per (key, arguments), publishes (key, headers, body), gives each queue's bodies."""
        queues = []
        for key, arguments in binding_arguments:
            queue = self.queue()
            self.channel.queue_bind(queue, exchange, key, arguments)
            queues.append(queue)
        channel = self.confirming_channel()
        for key, headers, body in published:
            channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers))
        return [self.take(queue) for queue in queues]

    def test_the_default_exchange_reaches_a_queue_by_its_name(self):
        queue = self.queue()
        self.fill(queue, b"straight")
        self.assertEqual(self.take(queue), [b"straight"])

    def test_direct_routes_by_the_whole_key(self):
        first, second = self.routed(
            self.exchange("direct"), [("red", None), ("green", None)],
            [("red", None, b"1"), ("green", None, b"2"), ("blue", None, b"3"), ("red", None, b"4")])
        self.assertEqual((first, second), ([b"1", b"4"], [b"2"]))

    def test_fanout_reaches_every_queue_whatever_the_key(self):
        got = self.routed(
            self.exchange("fanout"), [("", None), ("ignored", None)], [("a", None, b"1"), ("", None, b"2")])
        self.assertEqual(got, [[b"1", b"2"], [b"1", b"2"]])

    def test_topic_wildcards_stand_for_words(self):
        star, hash_, plain = self.routed(
            self.exchange("topic"), [("stock.*", None), ("stock.#", None), ("stock.nyse", None)],
            [(key, None, key.encode()) for key in ("stock", "stock.nyse", "stock.nyse.ibm", "bond.nyse")])
        self.assertEqual(star, [b"stock.nyse"])
        self.assertEqual(hash_, [b"stock", b"stock.nyse", b"stock.nyse.ibm"])
        self.assertEqual(plain, [b"stock.nyse"])

    def test_headers_match_all_or_any(self):
        both = {"format": "pdf", "pages": 3}
        every, some = self.routed(
            self.exchange("headers"), [("", {**both, "x-match": "all"}), ("", {**both, "x-match": "any"})],
            [("", both, b"both"), ("", {"format": "pdf"}, b"one"), ("", {"format": "txt"}, b"none")])
        self.assertEqual(every, [b"both"])
        self.assertEqual(some, [b"both", b"one"])

    def test_a_queue_bound_twice_gets_one_copy(self):
        exchange, queue = self.exchange("topic"), self.queue()
        self.channel.queue_bind(queue, exchange, "a.*")
        self.channel.queue_bind(queue, exchange, "*.b")
        self.channel.queue_bind(queue, exchange, "*.b")
        self.confirming_channel().basic_publish(exchange, "a.b", b"once")
        self.assertEqual(self.take(queue), [b"once"])

    def test_unbinding_stops_the_flow_and_unbinding_again_is_no_error(self):
        exchange, queue = self.exchange("direct"), self.queue()
        self.channel.queue_bind(queue, exchange, "key")
        self.channel.queue_unbind(queue, exchange, "key")
        self.channel.queue_unbind(queue, exchange, "key")
        self.confirming_channel().basic_publish(exchange, "key", b"nobody")
        self.assertEqual(self.take(queue), [])

    def test_exchanges_bound_to_exchanges_pass_messages_on(self):
        source, target, queue = self.exchange("topic"), self.exchange("fanout"), self.queue()
        self.channel.exchange_bind(target, source, "news.#")
        self.channel.queue_bind(queue, target)
        channel = self.confirming_channel()
        channel.basic_publish(source, "news.today", b"through")
        channel.basic_publish(source, "weather", b"not through")
        self.channel.exchange_unbind(target, source, "news.#")
        channel.basic_publish(source, "news.today", b"no longer")
        self.assertEqual(self.take(queue), [b"through"])

    def test_exchanges_bound_in_a_circle_deliver_once(self):
        one, two, queue = self.exchange("fanout"), self.exchange("fanout"), self.queue()
        self.channel.exchange_bind(one, two)
        self.channel.exchange_bind(two, one)
        self.channel.queue_bind(queue, one)
        self.channel.queue_bind(queue, two)
        self.confirming_channel().basic_publish(one, "", b"once")
        self.assertEqual(self.take(queue), [b"once"])

    def test_an_alternate_exchange_takes_what_nobody_is_bound_for(self):
        alternate, queue = self.exchange("fanout"), self.queue()
        exchange = self.exchange("direct", arguments={"alternate-exchange": alternate})
        self.channel.queue_bind(queue, alternate)
        # Mandatory: a message that found a queue through the alternate exchange is not returned.
        self.confirming_channel().basic_publish(exchange, "unknown", b"caught", mandatory=True)
        self.assertEqual(self.take(queue), [b"caught"])

    def test_predeclared_exchanges_are_there(self):
        for exchange in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"):
            self.channel.exchange_declare(exchange, passive=True)
        self.channel.exchange_declare("amq.direct", "direct", durable=True)

    def test_a_missing_exchange_is_404(self):
        name = unique("missing")
        with self.closes_channel(404, f"no exchange '{name}' in vhost"):
            self.channel.exchange_declare(name, passive=True)
        with self.closes_channel(404, f"no exchange '{name}' in vhost"):
            channel = self.confirming_channel()
            channel.basic_publish(name, "", b"lost")

    def test_redeclaring_alike_is_fine_and_otherwise_406(self):
        exchange = self.exchange("direct", durable=True)
        self.channel.exchange_declare(exchange, "direct", durable=True)
        with self.closes_channel(406, "inequivalent arg 'type'"):
            self.channel.exchange_declare(exchange, "fanout", durable=True)
        with self.closes_channel(406, "inequivalent arg 'durable'"):
            self.connection.channel().exchange_declare(exchange, "direct")

    def test_the_amq_prefix_and_the_default_exchange_are_reserved_with_403(self):
        with self.closes_channel(403):
            self.channel.exchange_declare("amq.interop", "direct")
        with self.closes_channel(403):
            self.connection.channel().queue_bind(self.connection_queue(), "", "key")
        with self.closes_channel(403):
            self.connection.channel().exchange_delete("amq.direct")

    def connection_queue(self):
        return self.connection.channel().queue_declare("", exclusive=True).method.queue

    def test_an_internal_exchange_takes_no_publishes(self):
        exchange = self.exchange("fanout", internal=True)
        with self.closes_channel(403, "internal"):
            self.confirming_channel().basic_publish(exchange, "", b"no")

    def test_an_auto_delete_exchange_goes_with_its_last_binding(self):
        exchange, queue = self.exchange("fanout", auto_delete=True), self.queue()
        self.channel.queue_bind(queue, exchange)
        self.channel.queue_unbind(queue, exchange)
        with self.closes_channel(404):
            self.channel.exchange_declare(exchange, passive=True)

    def test_deleting_an_exchange_if_unused_spares_a_bound_one(self):
        exchange, queue = self.exchange("fanout"), self.queue()
        self.channel.queue_bind(queue, exchange)
        with self.closes_channel(406, "in use"):
            self.channel.exchange_delete(exchange, if_unused=True)
        channel = self.connection.channel()
        channel.queue_unbind(queue, exchange)
        channel.exchange_delete(exchange, if_unused=True)
        channel.exchange_delete(exchange)  # deleting what is gone is no error


if __name__ == "__main__":
    unittest.main()
