package interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/**
 * What applications on Spring AMQP build on: retries through dead letters and expiry, counted in x-death, and confirms
 * and returns that are matched to what was sent. Declared and used as Spring does it, through the client it uses.
 */
class SpringTest extends Broker {
    /** CachingConnectionFactory puts it there to find what a returned message belongs to. */
    private static final String CORRELATION_HEADER = "spring_returned_message_correlation";

    private static Map<String, Object> deadLettersTo(String exchange, String key) {
        return Map.of("x-dead-letter-exchange", exchange, "x-dead-letter-routing-key", key);
    }

    private static Map<String, Object> waits(int milliseconds, String queue) {
        Map<String, Object> arguments = new HashMap<>(deadLettersTo("", queue));
        arguments.put("x-message-ttl", milliseconds);
        return arguments;
    }

    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> deaths(Delivery delivery) {
        Map<String, Object> headers = delivery.getProperties().getHeaders();
        Object deaths = headers == null ? null : headers.get("x-death");
        return deaths == null ? List.of() : (List<Map<String, Object>>) deaths;
    }

    /** How often a message was rejected from a queue, as a listener counts its attempts. */
    private static long rejections(Delivery delivery, String queue) {
        return deaths(delivery).stream()
                .filter(death -> queue.equals(death.get("queue").toString())
                        && "rejected".equals(death.get("reason").toString()))
                .mapToLong(death -> (Long) death.get("count")).sum();
    }

    private static String header(Delivery delivery, String name) {
        return String.valueOf(delivery.getProperties().getHeaders().get(name));
    }

    @Test
    void aRejectedMessageComesBackAfterAWhileUntilTheListenerHasCountedEnough() throws Exception {
        String retries = exchange("direct");
        String work = queue(deadLettersTo(retries, "wait"));
        String parked = queue();
        channel.queueBind(queue(waits(150, work)), retries, "wait");

        Channel listener = connection.createChannel();
        listener.basicQos(250);
        BlockingQueue<Delivery> deliveries = consume(listener, work, false, null);
        long sent = System.nanoTime();
        publish("", work, new AMQP.BasicProperties.Builder().messageId("order-1").deliveryMode(2)
                .headers(Map.of("tenant", "acme")).build(), bytes("order"));

        for (int attempt = 0; attempt < 3; attempt++) {
            Delivery delivery = next(deliveries);
            assertEquals(attempt, rejections(delivery, work));
            assertFalse(delivery.getEnvelope().isRedeliver(), "it comes as a new message");
            listener.basicReject(delivery.getEnvelope().getDeliveryTag(), false);
        }
        Delivery last = next(deliveries);
        assertTrue(System.nanoTime() - sent >= TimeUnit.MILLISECONDS.toNanos(3 * 150), "it waited three times");
        publish("", parked, last.getProperties(), last.getBody());
        listener.basicAck(last.getEnvelope().getDeliveryTag(), false);

        Delivery kept = next(consume(channel, parked, true, null));
        assertEquals("order order-1 acme",
                text(kept.getBody()) + " " + kept.getProperties().getMessageId() + " " + header(kept, "tenant"));
        List<Map<String, Object>> deaths = deaths(kept);
        assertEquals(List.of("expired 3 wait", "rejected 3 " + work), deaths.stream()
                .map(death -> death.get("reason") + " " + death.get("count") + " "
                        + ((List<?>) death.get("routing-keys")).get(0)).toList());
        assertEquals(List.of(retries, ""), deaths.stream().map(death -> death.get("exchange").toString()).toList());
        assertEquals(List.of(work, "rejected", ""), List.of(header(kept, "x-first-death-queue"),
                header(kept, "x-first-death-reason"), header(kept, "x-first-death-exchange")));
        assertEquals(0, ready(work));
    }

    @Test
    void eachAttemptWaitsLongerThanTheOneBefore() throws Exception {
        String retries = exchange("topic");
        String work = queue();
        int[] steps = {50, 150, 300};
        List<String> ladder = new ArrayList<>();
        for (int step : steps) {
            ladder.add(queue(waits(step, work)));
            channel.queueBind(ladder.get(ladder.size() - 1), retries, "retry." + step);
        }
        BlockingQueue<Delivery> deliveries = consume(channel, work, false, null);
        fill(work, "again");
        for (int step : steps) {
            Delivery delivery = next(deliveries);
            long failed = System.nanoTime();
            publish(retries, "retry." + step, delivery.getProperties(), delivery.getBody());
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            eventually(() -> !deliveries.isEmpty(), "the next attempt");
            assertTrue(System.nanoTime() - failed >= TimeUnit.MILLISECONDS.toNanos(step), "after " + step + " ms");
        }
        Delivery last = next(deliveries);
        List<String> died = deaths(last).stream().map(death -> death.get("queue").toString()).toList();
        assertEquals(ladder.get(2), died.get(0), "the latest first; RabbitMQ shuffles the others");
        assertEquals(new TreeSet<>(ladder), new TreeSet<>(died));
        assertEquals(ladder.size(), died.size());
        assertEquals(ladder.get(0), header(last, "x-first-death-queue"));
        assertEquals("", last.getEnvelope().getExchange());
        assertEquals(work, last.getEnvelope().getRoutingKey());
    }

    @Test
    void aMessageWithAnExpirationOfItsOwnComesBackWithoutIt() throws Exception {
        String work = queue();
        String delay = queue(deadLettersTo("", work));
        publish("", delay, new AMQP.BasicProperties.Builder().expiration("100").build(), bytes("later"));
        Delivery delivery = next(consume(channel, work, true, null));
        assertNull(delivery.getProperties().getExpiration(), "it would expire there too");
        Map<String, Object> death = deaths(delivery).get(0);
        assertEquals("expired 100", death.get("reason") + " " + death.get("original-expiration"));
    }

    @Test
    void whatAFullQueueDropsIsKeptAsADeadLetter() throws Exception {
        String dropped = queue();
        Map<String, Object> arguments = new HashMap<>(deadLettersTo("", dropped));
        arguments.put("x-max-length", 2);
        String queue = queue(arguments);
        fill(queue, "1", "2", "3");
        Delivery delivery = next(consume(channel, dropped, true, null));
        assertEquals("1 maxlen", text(delivery.getBody()) + " " + header(delivery, "x-first-death-reason"));
        holds(queue, "2", "3");
    }

    /** A publisher with publisher-confirm-type correlated and publisher-returns. */
    private static final class Template {
        final Channel channel;
        final NavigableMap<Long, String> pending = new ConcurrentSkipListMap<>();
        final BlockingQueue<String> events = new LinkedBlockingQueue<>();

        Template(Channel channel) throws Exception {
            this.channel = channel;
            channel.confirmSelect();
            channel.addReturnListener(returned -> events.add(
                    "returned " + returned.getProperties().getHeaders().get(CORRELATION_HEADER)));
            channel.addConfirmListener(
                    (tag, multiple) -> settle(tag, multiple, "ack"), (tag, multiple) -> settle(tag, multiple, "nack"));
        }

        private void settle(long tag, boolean multiple, String how) {
            NavigableMap<Long, String> settled =
                    multiple ? pending.headMap(tag, true) : pending.subMap(tag, true, tag, true);
            settled.values().forEach(correlation -> events.add(how + " " + correlation));
            settled.clear();
        }

        void send(String exchange, String key, String correlation) throws Exception {
            pending.put(channel.getNextPublishSeqNo(), correlation);
            channel.basicPublish(exchange, key, true, new AMQP.BasicProperties.Builder().deliveryMode(2)
                    .headers(Map.of(CORRELATION_HEADER, correlation)).build(), bytes(correlation));
        }

        List<String> next(int count) throws Exception {
            List<String> next = new ArrayList<>();
            while (next.size() < count) {
                String event = events.poll(DEADLINE_SECONDS, TimeUnit.SECONDS);
                assertTrue(event != null, "only " + next);
                next.add(event);
            }
            return next;
        }
    }

    @Test
    void everyMessageIsConfirmedOnceAndTheUnroutableOnesAreReturnedBefore() throws Exception {
        String exchange = exchange("direct");
        String queue = bound(exchange, "known");
        Template template = new Template(connection.createChannel());
        int messages = 300;
        for (int i = 0; i < messages; i++) {
            template.send(exchange, i % 3 == 0 ? "unknown" : "known", "m" + i);
        }
        List<String> events = template.next(messages + messages / 3);
        assertTrue(template.pending.isEmpty());
        Map<String, Integer> positions = new TreeMap<>();
        for (String event : events) {
            assertNull(positions.put(event, positions.size()), event + " twice");
        }
        for (int i = 0; i < messages; i++) {
            assertTrue(positions.containsKey("ack m" + i), "m" + i + " is confirmed");
            Integer returned = positions.get("returned m" + i);
            assertEquals(i % 3 == 0, returned != null, "m" + i);
            assertTrue(returned == null || returned < positions.get("ack m" + i), "m" + i + " is returned first");
        }
        assertEquals(messages - messages / 3, ready(queue));
    }

    @Test
    void aMessageToAnExchangeThatIsNotThereClosesTheChannelAndIsNeverConfirmed() throws Exception {
        String missing = unique("missing");
        Template[] template = new Template[1];
        closesChannel(404, "no exchange '" + missing + "'", victim -> {
            template[0] = new Template(victim);
            template[0].send(missing, "", "lost");
        });
        assertEquals(Map.of(1L, "lost"), template[0].pending);
    }

    @Test
    void aFullQueueThatRefusesSaysSoToThePublisher() throws Exception {
        String queue = queue(Map.of("x-max-length", 1, "x-overflow", "reject-publish"));
        Template template = new Template(connection.createChannel());
        template.send("", queue, "first");
        assertEquals(List.of("ack first"), template.next(1));
        template.send("", queue, "second");
        assertEquals(List.of("nack second"), template.next(1));
        holds(queue, "first");
    }

    @Test
    void anAnonymousQueueIsItsConnectionsAlone() throws Exception {
        // AnonymousQueue: these arguments, and a name that the client makes.
        String name = "spring.gen-" + unique("anonymous");
        Map<String, Object> arguments = Map.of("x-queue-master-locator", "client-local");
        connection.createChannel().queueDeclare(name, false, true, true, arguments);
        BlockingQueue<Delivery> deliveries = consume(channel, name, true, null);
        fill(name, "mine");
        assertEquals("mine", text(next(deliveries).getBody()));
        Channel other = connect(factory()).createChannel();
        try {
            other.queueDeclare(name, false, true, true, arguments);
        } catch (java.io.IOException refused) {
            assertTrue(refused.getCause().getMessage().contains("RESOURCE_LOCKED"), refused.getCause().getMessage());
            return;
        }
        throw new AssertionError("another connection declares it too");
    }
}
