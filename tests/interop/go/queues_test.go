package interop

import (
	"regexp"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func passively(queue string) func(*amqp.Channel) error {
	return func(channel *amqp.Channel) error {
		_, err := channel.QueueDeclarePassive(queue, false, false, false, false, nil)
		return err
	}
}

func TestADurableQueueOutlivesItsConnection(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.must(b.connection.Close())
	b.connection = b.connect(amqp.Config{})
	b.channel = b.openChannel()
	b.equal(b.ready(queue), 0, "messages")
}

func TestDeclaringReportsMessagesAndConsumers(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "1", "2")
	b.must(b.channel.Qos(1, 0, false))
	b.next(b.consume(b.channel, queue, false, nil))
	state, err := b.channel.QueueDeclare(queue, true, false, false, false, nil)
	b.must(err)
	b.equal(state, amqp.Queue{Name: queue, Messages: 1, Consumers: 1}, "declare-ok")
}

func TestAnExclusiveQueueIsLockedForOthersAndGoesWithItsConnection(t *testing.T) {
	b := open(t)
	owner := b.connect(amqp.Config{})
	channel, err := owner.Channel()
	b.must(err)
	queue := unique("exclusive")
	_, err = channel.QueueDeclare(queue, false, false, true, false, nil)
	b.must(err)
	b.closesChannel(405, "cannot obtain exclusive access to locked queue '"+queue+"'", passively(queue))
	b.must(owner.Close())
	b.closesChannel(404, "no queue '"+queue+"'", passively(queue))
}

func TestAnAutoDeleteQueueGoesWithItsLastConsumer(t *testing.T) {
	b := open(t)
	queue := unique("auto-delete")
	_, err := b.channel.QueueDeclare(queue, false, true, false, false, nil)
	b.must(err)
	_, err = b.channel.Consume(queue, "tag", false, false, false, false, nil)
	b.must(err)
	b.must(b.channel.Cancel("tag", false))
	b.closesChannel(404, "no queue '"+queue+"'", passively(queue))
}

func TestTheBrokerNamesAQueueWithoutAName(t *testing.T) {
	b := open(t)
	queue, err := b.channel.QueueDeclare("", false, false, true, false, nil)
	b.must(err)
	if !regexp.MustCompile(`^amq\.gen-[\w-]{22}$`).MatchString(queue.Name) {
		t.Fatal(queue.Name)
	}
}

func TestAPassiveDeclareOfAMissingQueueIs404AndTheConnectionSurvives(t *testing.T) {
	b := open(t)
	queue := unique("missing")
	b.closesChannel(404, "NOT_FOUND - no queue '"+queue+"' in vhost", passively(queue))
}

func TestAnInequivalentRedeclareIs406AndNamesTheDifference(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.closesChannel(406, "inequivalent arg 'durable' for queue '"+queue+"' in vhost", func(channel *amqp.Channel) error {
		_, err := channel.QueueDeclare(queue, false, false, false, false, nil)
		return err
	})
}

func TestPurgingEmptiesTheQueueAndSaysHowMany(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "1", "2", "3")
	count, err := b.channel.QueuePurge(queue, false)
	b.must(err)
	b.equal(count, 3, "purged")
	b.holds(queue)
}

func TestDeleteIfUnusedSparesAQueueWithConsumers(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.consume(b.channel, queue, false, nil)
	b.closesChannel(406, "in use", func(channel *amqp.Channel) error {
		_, err := channel.QueueDelete(queue, true, false, false)
		return err
	})
}

func TestDeleteIfEmptySparesAQueueWithMessages(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "keep")
	b.closesChannel(406, "not empty", func(channel *amqp.Channel) error {
		_, err := channel.QueueDelete(queue, false, true, false)
		return err
	})
	count, err := b.channel.QueueDelete(queue, true, false, false)
	b.must(err)
	b.equal(count, 1, "deleted messages")
}
