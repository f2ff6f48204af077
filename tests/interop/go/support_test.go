// Package interop uses a broker through amqp091-go, as any Go program would.
package interop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const deadline = 15 * time.Second

// broker is what every test stands on: a connection of its own, names of its own, waits with a deadline. Durable things
// declared through it are deleted afterwards.
type broker struct {
	*testing.T
	connection *amqp.Connection
	channel    *amqp.Channel
	queues     []string
	exchanges  []string
}

func open(t *testing.T) *broker {
	t.Helper()
	t.Parallel()
	b := &broker{T: t}
	t.Cleanup(b.deleteWhatWasDeclared)
	b.connection = b.connect(amqp.Config{})
	b.channel = b.openChannel()
	return b
}

func (b *broker) deleteWhatWasDeclared() {
	connection, err := dial(amqp.Config{})
	b.must(err)
	defer connection.Close()
	channel, err := connection.Channel()
	b.must(err)
	for _, queue := range b.queues {
		_, err = channel.QueueDelete(queue, false, false, false)
		b.must(err)
	}
	for _, exchange := range b.exchanges {
		b.must(channel.ExchangeDelete(exchange, false, false))
	}
}

func address() string {
	if uri := os.Getenv("AMQP_URI"); uri != "" {
		return uri
	}
	return "amqp://guest:guest@127.0.0.1:5672/"
}

func dial(config amqp.Config) (*amqp.Connection, error) {
	return amqp.DialConfig(address(), config)
}

// unique gives a name no other test, run or suite uses.
func unique(name string) string {
	random := make([]byte, 6)
	if _, err := rand.Read(random); err != nil {
		panic(err)
	}
	return "interop.go." + name + "." + hex.EncodeToString(random)
}

func (b *broker) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *broker) equal(got, want interface{}, what string) {
	b.Helper()
	if got != want {
		b.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (b *broker) connect(config amqp.Config) *amqp.Connection {
	b.Helper()
	connection, err := dial(config)
	b.must(err)
	b.Cleanup(func() { connection.Close() })
	return connection
}

func (b *broker) openChannel() *amqp.Channel {
	b.Helper()
	channel, err := b.connection.Channel()
	b.must(err)
	return channel
}

func (b *broker) queue() string {
	b.Helper()
	name := unique("queue")
	b.queues = append(b.queues, name)
	_, err := b.channel.QueueDeclare(name, true, false, false, false, nil)
	b.must(err)
	return name
}

func (b *broker) exchange(kind string, arguments amqp.Table) string {
	b.Helper()
	name := unique(kind)
	b.exchanges = append(b.exchanges, name)
	b.must(b.channel.ExchangeDeclare(name, kind, false, false, false, false, arguments))
	return name
}

// publish returns once the broker has confirmed.
func (b *broker) publish(exchange, key string, message amqp.Publishing) {
	b.Helper()
	channel := b.openChannel()
	defer channel.Close()
	b.must(channel.Confirm(false))
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, key, false, false, message)
	b.must(err)
	acknowledged, err := confirmation.WaitContext(ctx)
	b.must(err)
	b.equal(acknowledged, true, "confirmed")
}

func (b *broker) fill(queue string, bodies ...string) {
	b.Helper()
	for _, body := range bodies {
		b.publish("", queue, amqp.Publishing{Body: []byte(body)})
	}
}

func (b *broker) ready(queue string) int {
	b.Helper()
	state, err := b.channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	b.must(err)
	return state.Messages
}

// take gives the messages ready in the queue, which is left empty.
func (b *broker) take(queue string) []amqp.Delivery {
	b.Helper()
	var messages []amqp.Delivery
	for {
		message, ok, err := b.channel.Get(queue, true)
		b.must(err)
		if !ok {
			return messages
		}
		messages = append(messages, message)
	}
}

// holds checks the bodies ready in the queue, in order, and leaves it empty.
func (b *broker) holds(queue string, bodies ...string) {
	b.Helper()
	b.equal(texts(b.take(queue)), strings.Join(bodies, " "), "bodies in the queue")
}

func texts(messages []amqp.Delivery) string {
	bodies := make([]string, len(messages))
	for i, message := range messages {
		bodies[i] = string(message.Body)
	}
	return strings.Join(bodies, " ")
}

func (b *broker) get(channel *amqp.Channel, queue string) amqp.Delivery {
	b.Helper()
	message, ok, err := channel.Get(queue, false)
	b.must(err)
	b.equal(ok, true, "a message to get")
	return message
}

func (b *broker) consume(channel *amqp.Channel, queue string, autoAck bool, arguments amqp.Table) <-chan amqp.Delivery {
	b.Helper()
	deliveries, err := channel.Consume(queue, "", autoAck, false, false, false, arguments)
	b.must(err)
	return deliveries
}

// next waits for a delivery.
func (b *broker) next(deliveries <-chan amqp.Delivery) amqp.Delivery {
	b.Helper()
	select {
	case message, ok := <-deliveries:
		b.equal(ok, true, "deliveries still open")
		return message
	case <-time.After(deadline):
		b.Fatal("no delivery in time")
		return amqp.Delivery{}
	}
}

func (b *broker) eventually(condition func() bool, what string) {
	b.Helper()
	for end := time.Now().Add(deadline); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

// closesChannel runs an action on a channel of its own that the broker must answer by closing it, and only it.
func (b *broker) closesChannel(code int, text string, action func(*amqp.Channel) error) {
	b.Helper()
	channel := b.openChannel()
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	if err := action(channel); err != nil && !errors.As(err, new(*amqp.Error)) {
		b.Fatal(err)
	}
	select {
	case reason := <-closed:
		if reason == nil || reason.Code != code || !strings.Contains(reason.Reason, text) {
			b.Fatalf("closed with %v, want %d and %q", reason, code, text)
		}
	case <-time.After(deadline):
		b.Fatalf("the channel was not closed with %d", code)
	}
	b.openChannel() // the connection survives
}
