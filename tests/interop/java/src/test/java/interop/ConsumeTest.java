package interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class ConsumeTest extends Broker {
    @Test
    void messagesArriveInOrderAndAcknowledgedOnesAreGone() throws Exception {
        String queue = queue();
        fill(queue, "1", "2", "3", "4");
        Channel worker = connection.createChannel();
        BlockingQueue<Delivery> deliveries = consume(worker, queue, false, null);
        for (String body : List.of("1", "2", "3", "4")) {
            Delivery delivery = next(deliveries);
            assertEquals(body, text(delivery.getBody()));
            assertFalse(delivery.getEnvelope().isRedeliver());
        }
        worker.basicAck(3, true);
        worker.basicAck(4, false);
        worker.close();
        holds(queue);
    }

    @Test
    void acknowledgingTwiceIs406() throws Exception {
        String queue = queue();
        fill(queue, "1");
        closesChannel(406, "unknown delivery tag 1", channel -> {
            channel.basicGet(queue, false);
            channel.basicAck(1, false);
            channel.basicAck(1, false);
        });
    }

    @Test
    void prefetchBoundsWhatAConsumerHolds() throws Exception {
        String queue = queue();
        fill(queue, "1", "2", "3", "4", "5");
        channel.basicQos(2);
        BlockingQueue<Delivery> deliveries = consume(channel, queue, false, null);
        next(deliveries);
        next(deliveries);
        assertEquals(3, ready(queue));
        channel.basicAck(1, false);
        assertEquals("3", text(next(deliveries).getBody()));
        assertEquals(2, ready(queue));
    }

    @Test
    void globalQosIsSharedByTheChannelsConsumers() throws Exception {
        String first = queue();
        String second = queue();
        channel.basicQos(3, true);
        for (String queue : List.of(first, second)) {
            fill(queue, "1", "2", "3");
            consume(channel, queue, false, null);
        }
        eventually(() -> ready(first) + ready(second) == 3, "three held, three ready");
        channel.basicAck(0, true);
        eventually(() -> ready(first) + ready(second) == 0, "the others for the acknowledged");
    }

    @Test
    void aRejectedMessageReturnsToItsPlaceAndIsFlagged() throws Exception {
        String queue = queue();
        fill(queue, "1", "2", "3", "4");
        for (int i = 0; i < 3; i++) {
            channel.basicGet(queue, false);
        }
        channel.basicNack(2, false, true);
        GetResponse again = channel.basicGet(queue, false);
        assertEquals("2", text(again.getBody()));
        assertTrue(again.getEnvelope().isRedeliver());
        channel.basicReject(3, true);
        channel.basicNack(0, true, true);
        holds(queue, "1", "2", "3", "4");
    }

    @Test
    void rejectingWithoutRequeueDropsTheMessage() throws Exception {
        String queue = queue();
        fill(queue, "1", "2", "3");
        Channel worker = connection.createChannel();
        for (int i = 0; i < 3; i++) {
            worker.basicGet(queue, false);
        }
        worker.basicReject(1, false);
        worker.basicNack(3, true, false);
        worker.close();
        holds(queue);
    }

    @Test
    void recoverRequeuesWhatIsUnacknowledged() throws Exception {
        String queue = queue();
        fill(queue, "1", "2");
        channel.basicGet(queue, false);
        channel.basicGet(queue, false);
        channel.basicRecover(true);
        GetResponse again = channel.basicGet(queue, false);
        assertEquals("1", text(again.getBody()));
        assertTrue(again.getEnvelope().isRedeliver());
    }

    @Test
    void gettingTellsWhatIsLeftAndWhenThereIsNothing() throws Exception {
        String queue = queue();
        assertNull(channel.basicGet(queue, true));
        fill(queue, "1", "2", "3");
        assertEquals(2, channel.basicGet(queue, true).getMessageCount());
    }

    @Test
    void deletingAQueueCancelsItsConsumers() throws Exception {
        String queue = queue();
        CompletableFuture<String> cancelled = new CompletableFuture<>();
        String tag = channel.basicConsume(queue, false, (ignored, delivery) -> {}, cancelled::complete);
        connection.createChannel().queueDelete(queue);
        assertEquals(tag, cancelled.get(DEADLINE_SECONDS, TimeUnit.SECONDS));
        assertTrue(channel.isOpen());
    }

    @Test
    void theConsumerWithTheHigherPriorityIsServedFirst() throws Exception {
        String queue = queue();
        channel.basicQos(2);
        BlockingQueue<Delivery> low = consume(channel, queue, false, null);
        BlockingQueue<Delivery> high = consume(channel, queue, false, Map.of("x-priority", 10));
        fill(queue, "1", "2", "3");
        assertEquals("1", text(next(high).getBody()));
        assertEquals("2", text(next(high).getBody()));
        assertEquals("3", text(next(low).getBody()));
    }
}
