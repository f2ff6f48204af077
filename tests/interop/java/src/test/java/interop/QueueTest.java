package interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Connection;
import org.junit.jupiter.api.Test;

class QueueTest extends Broker {
    @Test
    void aDurableQueueOutlivesItsConnection() throws Exception {
        String queue = queue();
        connection.close();
        connection = connect(factory());
        channel = connection.createChannel();
        assertEquals(0, ready(queue));
    }

    @Test
    void declaringReportsMessagesAndConsumers() throws Exception {
        String queue = queue();
        fill(queue, "1", "2");
        channel.basicQos(1);
        next(consume(channel, queue, false, null));
        AMQP.Queue.DeclareOk declared = channel.queueDeclare(queue, true, false, false, null);
        assertEquals(1, declared.getMessageCount());
        assertEquals(1, declared.getConsumerCount());
    }

    @Test
    void anExclusiveQueueIsLockedForOthersAndGoesWithItsConnection() throws Exception {
        Connection owner = connect(factory());
        String queue = owner.createChannel().queueDeclare(unique("exclusive"), false, true, false, null).getQueue();
        closesChannel(405, "cannot obtain exclusive access to locked queue '" + queue + "'",
                channel -> channel.queueDeclarePassive(queue));
        owner.close();
        closesChannel(404, "no queue '" + queue + "'", channel -> channel.queueDeclarePassive(queue));
    }

    @Test
    void anAutoDeleteQueueGoesWithItsLastConsumer() throws Exception {
        String queue = channel.queueDeclare(unique("auto-delete"), false, false, true, null).getQueue();
        channel.basicConsume(queue, false, "tag", (tag, delivery) -> {}, tag -> {});
        channel.basicCancel("tag");
        closesChannel(404, "no queue '" + queue + "'", channel -> channel.queueDeclarePassive(queue));
    }

    @Test
    void theBrokerNamesAQueueWithoutAName() throws Exception {
        String queue = channel.queueDeclare().getQueue();
        assertTrue(queue.matches("amq\\.gen-[A-Za-z0-9_-]{22}"), queue);
    }

    @Test
    void aPassiveDeclareOfAMissingQueueIs404AndTheConnectionSurvives() throws Exception {
        String queue = unique("missing");
        closesChannel(404, "NOT_FOUND - no queue '" + queue + "' in vhost",
                channel -> channel.queueDeclarePassive(queue));
    }

    @Test
    void anInequivalentRedeclareIs406AndNamesTheDifference() throws Exception {
        String queue = queue();
        closesChannel(406, "inequivalent arg 'durable' for queue '" + queue + "' in vhost",
                channel -> channel.queueDeclare(queue, false, false, false, null));
    }

    @Test
    void purgingEmptiesTheQueueAndSaysHowMany() throws Exception {
        String queue = queue();
        fill(queue, "1", "2", "3");
        assertEquals(3, channel.queuePurge(queue).getMessageCount());
        holds(queue);
    }

    @Test
    void deleteIfUnusedSparesAQueueWithConsumers() throws Exception {
        String queue = queue();
        consume(channel, queue, false, null);
        closesChannel(406, "in use", channel -> channel.queueDelete(queue, true, false));
    }

    @Test
    void deleteIfEmptySparesAQueueWithMessages() throws Exception {
        String queue = queue();
        fill(queue, "keep me");
        closesChannel(406, "not empty", channel -> channel.queueDelete(queue, false, true));
        assertEquals(1, channel.queueDelete(queue, true, false).getMessageCount());
    }
}
