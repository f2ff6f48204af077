package interop;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.MessageProperties;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class PublishTest extends Broker {
    @Test
    void everyMessageIsConfirmed() throws Exception {
        String queue = queue();
        channel.confirmSelect();
        for (int i = 0; i < 500; i++) {
            channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, bytes("message"));
        }
        assertTrue(channel.waitForConfirms(DEADLINE_SECONDS * 1000));
        assertEquals(500, ready(queue));
    }

    @Test
    void aMandatoryUnroutableMessageIsReturnedBeforeItsConfirm() throws Exception {
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        channel.confirmSelect();
        channel.addReturnListener(returned -> events.add("returned " + returned.getReplyCode() + " "
                + returned.getReplyText() + " " + text(returned.getBody())));
        channel.addConfirmListener((tag, multiple) -> events.add("confirmed"), (tag, multiple) -> events.add("nack"));
        channel.basicPublish("", unique("missing"), true, null, bytes("back"));
        assertEquals("returned 312 NO_ROUTE back", events.poll(DEADLINE_SECONDS, TimeUnit.SECONDS));
        assertEquals("confirmed", events.poll(DEADLINE_SECONDS, TimeUnit.SECONDS));
    }

    /** Bytes whose period is no divisor of a frame, so that a misplaced frame shows. */
    private static byte[] bodyOf(int size) {
        byte[] body = new byte[size];
        for (int i = 0; i < size; i++) {
            body[i] = (byte) (i % 251);
        }
        return body;
    }

    @Test
    void aMegabyteArrivesUnchanged() throws Exception {
        String queue = queue();
        byte[] body = bodyOf(1024 * 1024);
        publish("", queue, null, body);
        assertArrayEquals(body, next(consume(channel, queue, true, null)).getBody());
    }

    @Test
    void aLargeBodyThroughAFanoutReachesThreeQueuesUnchanged() throws Exception {
        String exchange = exchange("fanout");
        List<String> queues = List.of(bound(exchange, ""), bound(exchange, ""), bound(exchange, ""));
        byte[] body = bodyOf(140_000);
        publish(exchange, "", null, body);
        for (String queue : queues) {
            assertArrayEquals(body, channel.basicGet(queue, true).getBody());
        }
    }

    @Test
    void anEmptyBodyArrivesEmpty() throws Exception {
        String queue = queue();
        fill(queue, "", "next");
        holds(queue, "", "next");
    }

    @Test
    void allPropertiesAndHeaderTypesArriveUnchanged() throws Exception {
        String queue = queue();
        Date now = new Date(1_700_000_000_000L);
        Map<String, Object> headers = new HashMap<>();
        headers.put("text", "grüße");
        headers.put("yes", true);
        headers.put("byte", (byte) -128);
        headers.put("short", (short) -32768);
        headers.put("int", Integer.MIN_VALUE);
        headers.put("long", Long.MIN_VALUE);
        headers.put("float", 1.5f);
        headers.put("double", Math.PI);
        headers.put("decimal", new BigDecimal("3.14"));
        headers.put("time", now);
        headers.put("nothing", null);
        headers.put("list", Arrays.asList(1, "two", null, List.of(true)));
        headers.put("table", Map.of("deep", Map.of("er", "yes")));
        AMQP.BasicProperties sent = new AMQP.BasicProperties.Builder().contentType("application/json")
                .contentEncoding("gzip").headers(headers).deliveryMode(2).priority(5).correlationId("correlation")
                .replyTo("somewhere").messageId("id").timestamp(now).type("kind").userId(factory().getUsername())
                .appId("application").clusterId("cluster").build();
        publish("", queue, sent, bytes("{}"));
        publish("", queue, new AMQP.BasicProperties.Builder().headers(Map.of("bytes", new byte[] {0, -1})).build(),
                bytes("{}"));

        AMQP.BasicProperties received = channel.basicGet(queue, true).getProps();
        assertEquals(headers, plain(received.getHeaders()));
        assertEquals(sent, received.builder().headers(headers).build());
        // A byte array has no equals, so it comes alone.
        assertArrayEquals(new byte[] {0, -1}, (byte[]) channel.basicGet(queue, true).getProps().getHeaders().get("bytes"));
    }

    /** The client reads strings in tables as LongString. */
    private static Object plain(Object value) {
        if (value instanceof LongString) {
            return value.toString();
        }
        if (value instanceof List<?> list) {
            List<Object> plain = new ArrayList<>();
            list.forEach(element -> plain.add(plain(element)));
            return plain;
        }
        if (value instanceof Map<?, ?> map) {
            Map<Object, Object> plain = new HashMap<>();
            map.forEach((key, element) -> plain.put(key, plain(element)));
            return plain;
        }
        return value;
    }

    @Test
    void ccAndBccAddRoutingKeysAndBccIsNotShown() throws Exception {
        String to = queue();
        String cc = queue();
        String bcc = queue();
        publish("", to, new AMQP.BasicProperties.Builder()
                .headers(Map.of("CC", List.of(cc), "BCC", List.of(bcc))).build(), bytes("copied"));
        for (String queue : List.of(to, cc, bcc)) {
            GetResponse message = channel.basicGet(queue, true);
            assertEquals(to, message.getEnvelope().getRoutingKey());
            assertEquals(Map.of("CC", List.of(cc)), plain(message.getProps().getHeaders()));
        }
    }

    @Test
    void oneRpcThroughDirectReplyTo() throws Exception {
        String requests = queue();
        Channel server = connection.createChannel();
        server.basicConsume(requests, true, (tag, call) -> server.basicPublish("", call.getProperties().getReplyTo(),
                new AMQP.BasicProperties.Builder().correlationId(call.getProperties().getCorrelationId()).build(),
                bytes(text(call.getBody()).toUpperCase())), tag -> {});
        BlockingQueue<Delivery> answers = consume(channel, "amq.rabbitmq.reply-to", true, null);
        for (String id : List.of("1", "2", "3")) {
            channel.basicPublish("", requests, new AMQP.BasicProperties.Builder()
                    .replyTo("amq.rabbitmq.reply-to").correlationId(id).build(), bytes("hello"));
            Delivery answer = next(answers);
            assertEquals(id + " HELLO", answer.getProperties().getCorrelationId() + " " + text(answer.getBody()));
        }
    }

    @Test
    void aTransactionShowsItsMessagesOnCommitAndForgetsThemOnRollback() throws Exception {
        String queue = queue();
        Channel writer = connection.createChannel();
        writer.txSelect();
        writer.basicPublish("", queue, null, bytes("1"));
        assertEquals(0, ready(queue));
        writer.txCommit();
        assertEquals(1, ready(queue));
        writer.basicPublish("", queue, null, bytes("2"));
        writer.txRollback();
        writer.txCommit();
        holds(queue, "1");
    }
}
