package interop

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestPlainLoginOpensAConnectionThatClosesCleanly(t *testing.T) {
	b := open(t)
	connection := b.connect(amqp.Config{})
	b.must(connection.Close())
	b.equal(connection.IsClosed(), true, "closed")
}

func TestTheBrokerNamesItselfAndItsCapabilities(t *testing.T) {
	b := open(t)
	capabilities := b.connection.Properties["capabilities"].(amqp.Table)
	for _, capability := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
		"consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
	} {
		b.equal(capabilities[capability], true, capability)
	}
}

func refused(t *testing.T, code int, config amqp.Config) {
	t.Helper()
	t.Parallel()
	_, err := dial(config)
	var reason *amqp.Error
	if !errors.As(err, &reason) || reason.Code != code {
		t.Fatalf("got %v, want code %d", err, code)
	}
}

func TestAWrongPasswordIsRefusedWith403(t *testing.T) {
	refused(t, 403, amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "wrong"}}})
}

func TestAVhostThatDoesNotExistIsRefusedWith530(t *testing.T) {
	refused(t, 530, amqp.Config{Vhost: "interop-no-such-vhost"})
}

func TestTheHeartbeatIsNegotiated(t *testing.T) {
	b := open(t)
	b.equal(b.connect(amqp.Config{Heartbeat: 17 * time.Second}).Config.Heartbeat, 17*time.Second, "the client's wish")
}

func TestAnIdleConnectionReceivesHeartbeatsAndStaysOpen(t *testing.T) {
	b := open(t)
	reads := make(chan int, 1000)
	connection := b.connect(amqp.Config{Heartbeat: time.Second, Dial: func(network, address string) (net.Conn, error) {
		socket, err := amqp.DefaultDial(deadline)(network, address)
		return countingConn{socket, reads}, err
	}})
	for len(reads) > 0 {
		<-reads // the handshake's
	}
	for beats := 0; beats < 5; beats++ {
		select {
		case <-reads:
		case <-time.After(deadline):
			t.Fatal("no heartbeat in time")
		}
	}
	b.equal(connection.IsClosed(), false, "closed")
}

// countingConn tells of every successful read.
type countingConn struct {
	net.Conn
	reads chan int
}

func (c countingConn) Read(buffer []byte) (int, error) {
	n, err := c.Conn.Read(buffer)
	if err == nil {
		select {
		case c.reads <- n:
		default:
		}
	}
	return n, err
}

func TestManyChannelsWorkSideBySide(t *testing.T) {
	b := open(t)
	queue := b.queue()
	channels := make([]*amqp.Channel, 200)
	for i := range channels {
		channels[i] = b.openChannel()
	}
	for i, channel := range channels {
		b.must(channel.Publish("", queue, false, false, amqp.Publishing{Body: []byte(fmt.Sprint(i))}))
	}
	for _, channel := range channels {
		b.must(channel.Close())
	}
	b.eventually(func() bool { return b.ready(queue) == len(channels) }, "one message from each channel")
}

func TestAChannelCanBeOpenedAgainAfterAChannelError(t *testing.T) {
	b := open(t)
	for i := 0; i < 3; i++ {
		b.closesChannel(404, "NOT_FOUND - no queue", func(channel *amqp.Channel) error {
			_, err := channel.QueueDeclarePassive(unique("missing"), false, false, false, false, nil)
			return err
		})
	}
	b.queue() // the other channel goes on
}

func TestAClosedChannelGivesItsUnacknowledgedMessagesBack(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "job")
	worker := b.openChannel()
	b.get(worker, queue)
	b.must(worker.Close())
	b.eventually(func() bool { return b.ready(queue) == 1 }, "the message back in its queue")
	b.equal(b.get(b.channel, queue).Redelivered, true, "redelivered")
}

func TestALostConnectionGivesItsUnacknowledgedMessagesBack(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "job")
	var socket net.Conn
	worker := b.connect(amqp.Config{Dial: func(network, address string) (_ net.Conn, err error) {
		socket, err = amqp.DefaultDial(deadline)(network, address)
		return socket, err
	}})
	channel, err := worker.Channel()
	b.must(err)
	b.next(b.consume(channel, queue, false, nil))
	b.must(socket.Close()) // goes without a goodbye
	b.eventually(func() bool { return b.ready(queue) == 1 }, "the message back in its queue")
	b.equal(b.get(b.channel, queue).Redelivered, true, "redelivered")
}

func TestASmallerFrameSizeIsAcceptedAndLargeBodiesStillFit(t *testing.T) {
	b := open(t)
	b.connection = b.connect(amqp.Config{FrameSize: 4096})
	b.channel = b.openChannel()
	queue, body := b.queue(), strings.Repeat("leveret", 4000)
	b.fill(queue, body)
	b.holds(queue, body)
}
