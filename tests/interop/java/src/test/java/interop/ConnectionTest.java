package interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

class ConnectionTest extends Broker {
    @Test
    void plainLoginOpensAConnectionThatClosesCleanly() throws Exception {
        Connection another = connect(factory());
        another.close();
        assertFalse(another.isOpen());
    }

    @Test
    void theBrokerNamesItselfAndItsCapabilities() {
        Map<?, ?> capabilities = (Map<?, ?>) connection.getServerProperties().get("capabilities");
        for (String capability : List.of("publisher_confirms", "exchange_exchange_bindings", "basic.nack",
                "consumer_cancel_notify", "connection.blocked", "consumer_priorities", "authentication_failure_close",
                "per_consumer_qos", "direct_reply_to")) {
            assertEquals(true, capabilities.get(capability), capability);
        }
    }

    @Test
    void aWrongPasswordIsRefusedWith403() throws Exception {
        ConnectionFactory factory = factory();
        factory.setPassword("not the password");
        // The client throws this for an ACCESS_REFUSED close only.
        Exception refusal = assertThrows(AuthenticationFailureException.class, () -> connect(factory));
        assertTrue(refusal.getMessage().contains("ACCESS_REFUSED"), refusal.getMessage());
    }

    @Test
    void aVhostThatDoesNotExistIsRefusedWith530() throws Exception {
        ConnectionFactory factory = factory();
        factory.setVirtualHost("interop-no-such-vhost");
        IOException refusal = assertThrows(IOException.class, () -> connect(factory));
        ShutdownSignalException signal = (ShutdownSignalException) refusal.getCause();
        assertEquals(530, ((AMQP.Connection.Close) signal.getReason()).getReplyCode());
    }

    @Test
    void theSmallerHeartbeatIsNegotiated() throws Exception {
        ConnectionFactory factory = factory();
        factory.setRequestedHeartbeat(17);
        assertEquals(17, connect(factory).getHeartbeat());
    }

    @Test
    void anIdleConnectionReceivesHeartbeatsAndStaysOpen() throws Exception {
        ConnectionFactory factory = factory();
        factory.setRequestedHeartbeat(1);
        Connection idle = connect(factory);
        // The client closes a connection that was silent for two heartbeats: it must outlive four.
        long end = System.nanoTime() + 4_000_000_000L;
        eventually(() -> !idle.isOpen() || System.nanoTime() > end, "four heartbeats");
        assertTrue(idle.isOpen());
    }

    @Test
    void aSmallerFrameSizeIsAcceptedAndLargeBodiesStillFit() throws Exception {
        ConnectionFactory factory = factory();
        factory.setRequestedFrameMax(4096);
        connection = connect(factory);
        channel = connection.createChannel();
        String queue = queue();
        String body = "leveret".repeat(4000);
        fill(queue, body);
        holds(queue, body);
    }

    @Test
    void manyChannelsWorkSideBySide() throws Exception {
        String queue = queue();
        List<Channel> channels = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            channels.add(connection.createChannel());
        }
        for (Channel each : channels) {
            each.basicPublish("", queue, null, bytes("one"));
        }
        for (Channel each : channels) {
            each.close();
        }
        eventually(() -> ready(queue) == 200, "one message from each channel");
    }

    @Test
    void aChannelNumberCanBeOpenedAgainAfterAChannelError() throws Exception {
        for (int i = 0; i < 3; i++) {
            Channel victim = connection.createChannel(33);
            assertThrows(IOException.class, () -> victim.queueDeclarePassive(unique("missing")));
            assertFalse(victim.isOpen());
        }
        connection.createChannel(33).queueDeclare();
        assertTrue(channel.isOpen());
    }

    @Test
    void aClosedChannelGivesItsUnacknowledgedMessagesBack() throws Exception {
        String queue = queue();
        fill(queue, "job");
        Channel worker = connection.createChannel();
        worker.basicGet(queue, false);
        worker.close();
        eventually(() -> ready(queue) == 1, "the message back in its queue");
        assertTrue(channel.basicGet(queue, true).getEnvelope().isRedeliver());
    }

    @Test
    void aLostConnectionGivesItsUnacknowledgedMessagesBack() throws Exception {
        String queue = queue();
        fill(queue, "job");
        AtomicReference<Socket> socket = new AtomicReference<>();
        ConnectionFactory factory = factory();
        factory.setSocketConfigurator(socket::set);
        next(consume(connect(factory).createChannel(), queue, false, null));
        socket.get().close(); // goes without a goodbye
        eventually(() -> ready(queue) == 1, "the message back in its queue");
        assertTrue(channel.basicGet(queue, true).getEnvelope().isRedeliver());
    }
}
