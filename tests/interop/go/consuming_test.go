package interop

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestMessagesArriveInOrderAndAcknowledgedOnesAreGone(t *testing.T) {
	b := open(t)
	queue, worker := b.queue(), b.openChannel()
	b.fill(queue, "1", "2", "3", "4")
	deliveries := b.consume(worker, queue, false, nil)
	for _, body := range []string{"1", "2", "3", "4"} {
		message := b.next(deliveries)
		b.equal(string(message.Body), body, "body")
		b.equal(message.Redelivered, false, "redelivered")
		if body == "2" || body == "4" {
			b.must(message.Ack(true))
		}
	}
	b.must(worker.Close())
	b.holds(queue)
}

func TestAcknowledgingTwiceIs406(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "1")
	b.closesChannel(406, "unknown delivery tag 1", func(channel *amqp.Channel) error {
		message := b.get(channel, queue)
		b.must(message.Ack(false))
		return message.Ack(false)
	})
}

func TestPrefetchBoundsWhatAConsumerHolds(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "1", "2", "3", "4", "5")
	b.must(b.channel.Qos(2, 0, false))
	deliveries := b.consume(b.channel, queue, false, nil)
	first := b.next(deliveries)
	b.next(deliveries)
	b.equal(b.ready(queue), 3, "ready")
	b.must(first.Ack(false))
	b.equal(string(b.next(deliveries).Body), "3", "the next one")
	b.equal(b.ready(queue), 2, "ready")
}

func TestGlobalQosIsSharedByTheChannelsConsumers(t *testing.T) {
	b := open(t)
	queues := []string{b.queue(), b.queue()}
	b.must(b.channel.Qos(3, 0, true))
	for _, queue := range queues {
		b.fill(queue, "1", "2", "3")
		b.consume(b.channel, queue, false, nil)
	}
	b.eventually(func() bool { return b.ready(queues[0])+b.ready(queues[1]) == 3 }, "three held, three ready")
	b.must(b.channel.Ack(0, true))
	b.eventually(func() bool { return b.ready(queues[0])+b.ready(queues[1]) == 0 }, "the others for the acknowledged")
}

func TestARejectedMessageReturnsToItsPlaceAndIsFlagged(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "1", "2", "3", "4")
	one, two, three := b.get(b.channel, queue), b.get(b.channel, queue), b.get(b.channel, queue)
	b.must(two.Nack(false, true))
	again := b.get(b.channel, queue)
	b.equal(string(again.Body), "2", "the one requeued")
	b.equal(again.Redelivered, true, "redelivered")
	b.must(three.Reject(true))
	b.must(one.Nack(false, true))
	b.must(again.Nack(false, true))
	b.holds(queue, "1", "2", "3", "4")
}

func TestRejectingWithoutRequeueDropsTheMessage(t *testing.T) {
	b := open(t)
	queue, worker := b.queue(), b.openChannel()
	b.fill(queue, "1", "2", "3")
	b.must(b.get(worker, queue).Reject(false))
	b.get(worker, queue)
	b.must(b.get(worker, queue).Nack(true, false))
	b.must(worker.Close())
	b.holds(queue)
}

func TestRecoverRequeuesWhatIsUnacknowledged(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "1", "2")
	b.get(b.channel, queue)
	b.get(b.channel, queue)
	b.must(b.channel.Recover(true))
	message := b.get(b.channel, queue)
	b.equal(string(message.Body), "1", "body")
	b.equal(message.Redelivered, true, "redelivered")
}

func TestGettingTellsWhatIsLeftAndWhenThereIsNothing(t *testing.T) {
	b := open(t)
	queue := b.queue()
	_, ok, err := b.channel.Get(queue, true)
	b.must(err)
	b.equal(ok, false, "a message")
	b.fill(queue, "1", "2", "3")
	b.equal(b.get(b.channel, queue).MessageCount, uint32(2), "messages left")
}

func TestDeletingAQueueCancelsItsConsumers(t *testing.T) {
	b := open(t)
	queue := b.queue()
	cancelled := b.channel.NotifyCancel(make(chan string, 1))
	deliveries, err := b.channel.Consume(queue, "tag", false, false, false, false, nil)
	b.must(err)
	_, err = b.openChannel().QueueDelete(queue, false, false, false)
	b.must(err)
	b.eventually(func() bool { return len(cancelled) == 1 }, "the cancel notification")
	b.equal(<-cancelled, "tag", "cancelled consumer")
	if message, ok := <-deliveries; ok {
		t.Fatalf("delivered %v after the cancel", message)
	}
}

func TestTheConsumerWithTheHigherPriorityIsServedFirst(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.must(b.channel.Qos(2, 0, false))
	low := b.consume(b.channel, queue, false, nil)
	high := b.consume(b.channel, queue, false, amqp.Table{"x-priority": int32(10)})
	b.fill(queue, "1", "2", "3")
	b.equal(string(b.next(high).Body), "1", "first")
	b.equal(string(b.next(high).Body), "2", "second")
	b.equal(string(b.next(low).Body), "3", "third")
}
