package interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.CancelCallback;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.ShutdownSignalException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;

/**
 * What every test here stands on: a connection of its own, names of its own, waits with a deadline. Durable things
 * declared through it are deleted afterwards.
 */
abstract class Broker {
    static final int DEADLINE_SECONDS = 15;

    private final List<Connection> connections = new ArrayList<>();
    private final List<String> queues = new ArrayList<>();
    private final List<String> exchanges = new ArrayList<>();
    Connection connection;
    Channel channel;

    @BeforeEach
    void connect() throws Exception {
        connection = connect(factory());
        channel = connection.createChannel();
    }

    @AfterEach
    void deleteWhatWasDeclared() throws Exception {
        for (Connection open : connections) {
            open.abort();
        }
        try (Connection cleaner = factory().newConnection()) {
            Channel channel = cleaner.createChannel();
            for (String queue : queues) {
                channel.queueDelete(queue);
            }
            for (String exchange : exchanges) {
                channel.exchangeDelete(exchange);
            }
        }
    }

    static ConnectionFactory factory() throws Exception {
        String uri = System.getenv().getOrDefault("AMQP_URI", "amqp://guest:guest@127.0.0.1:5672");
        ConnectionFactory factory = new ConnectionFactory();
        // This client reads a lone slash at the end as the vhost with the empty name, the others as no vhost given.
        factory.setUri(uri.replaceFirst("(//[^/]*)/$", "$1"));
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    Connection connect(ConnectionFactory factory) throws Exception {
        Connection connection = factory.newConnection();
        connections.add(connection);
        return connection;
    }

    /** A name no other test, run or suite uses. */
    static String unique(String name) {
        return "interop.java." + name + "." + UUID.randomUUID().toString().substring(24);
    }

    String queue() throws Exception {
        return queue(null);
    }

    String queue(Map<String, Object> arguments) throws Exception {
        String name = unique("queue");
        queues.add(name);
        channel.queueDeclare(name, true, false, false, arguments);
        return name;
    }

    String exchange(String type) throws Exception {
        return exchange(type, null);
    }

    String exchange(String type, Map<String, Object> arguments) throws Exception {
        String name = unique(type);
        exchanges.add(name);
        channel.exchangeDeclare(name, type, false, false, arguments);
        return name;
    }

    String bound(String exchange, String key) throws Exception {
        return bound(exchange, key, null);
    }

    String bound(String exchange, String key, Map<String, Object> arguments) throws Exception {
        String queue = queue();
        channel.queueBind(queue, exchange, key, arguments);
        return queue;
    }

    /** Publishes and waits for the confirm. */
    void publish(String exchange, String key, AMQP.BasicProperties properties, byte[] body) throws Exception {
        Channel publisher = connection.createChannel();
        publisher.confirmSelect();
        publisher.basicPublish(exchange, key, properties, body);
        publisher.waitForConfirmsOrDie(DEADLINE_SECONDS * 1000);
        publisher.close();
    }

    void publish(String exchange, String key, String body) throws Exception {
        publish(exchange, key, null, bytes(body));
    }

    void fill(String queue, String... bodies) throws Exception {
        for (String body : bodies) {
            publish("", queue, body);
        }
    }

    long ready(String queue) throws Exception {
        return channel.messageCount(queue);
    }

    /** Checks the bodies ready in the queue, in order, and leaves it empty. */
    void holds(String queue, String... bodies) throws Exception {
        List<String> got = new ArrayList<>();
        for (GetResponse message; (message = channel.basicGet(queue, true)) != null; ) {
            got.add(text(message.getBody()));
        }
        assertEquals(List.of(bodies), got);
    }

    /** Consumes into a queue of deliveries. */
    BlockingQueue<Delivery> consume(Channel channel, String queue, boolean autoAck, Map<String, Object> arguments)
            throws Exception {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        CancelCallback ignored = tag -> {};
        channel.basicConsume(queue, autoAck, arguments, (tag, delivery) -> deliveries.add(delivery), ignored);
        return deliveries;
    }

    static Delivery next(BlockingQueue<Delivery> deliveries) throws Exception {
        Delivery delivery = deliveries.poll(DEADLINE_SECONDS, TimeUnit.SECONDS);
        assertTrue(delivery != null, "no delivery in time");
        return delivery;
    }

    static void eventually(Callable<Boolean> condition, String what) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(DEADLINE_SECONDS);
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                fail("not within " + DEADLINE_SECONDS + " s: " + what);
            }
            Thread.sleep(5);
        }
    }

    interface Action {
        void on(Channel channel) throws Exception;
    }

    /** Runs an action on a channel of its own that the broker must answer by closing it, and only it. */
    void closesChannel(int code, String text, Action action) throws Exception {
        Channel victim = connection.createChannel();
        CompletableFuture<ShutdownSignalException> closed = new CompletableFuture<>();
        victim.addShutdownListener(closed::complete);
        try {
            action.on(victim);
        } catch (Exception thrown) {
            // The listener hears the same, for methods without an answer too.
        }
        ShutdownSignalException signal = closed.get(DEADLINE_SECONDS, TimeUnit.SECONDS);
        AMQP.Channel.Close close = (AMQP.Channel.Close) signal.getReason();
        assertEquals(code, close.getReplyCode(), close.getReplyText());
        assertTrue(close.getReplyText().contains(text), close.getReplyText());
        assertTrue(connection.createChannel().isOpen(), "the connection survives");
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
