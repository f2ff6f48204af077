package interop

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

func (b *broker) bind(exchange, key string, arguments amqp.Table) string {
	b.Helper()
	queue := b.queue()
	b.must(b.channel.QueueBind(queue, key, exchange, false, arguments))
	return queue
}

func (b *broker) publishText(exchange, key, body string) {
	b.Helper()
	b.publish(exchange, key, amqp.Publishing{Body: []byte(body)})
}

func TestTheDefaultExchangeReachesAQueueByItsName(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.publishText("", queue, "straight")
	b.holds(queue, "straight")
}

func TestDirectRoutesByTheWholeKey(t *testing.T) {
	b := open(t)
	exchange := b.exchange("direct", nil)
	red, green := b.bind(exchange, "red", nil), b.bind(exchange, "green", nil)
	for _, key := range []string{"red", "green", "blue"} {
		b.publishText(exchange, key, key)
	}
	b.holds(red, "red")
	b.holds(green, "green")
}

func TestFanoutReachesEveryQueueWhateverTheKey(t *testing.T) {
	b := open(t)
	exchange := b.exchange("fanout", nil)
	first, second := b.bind(exchange, "", nil), b.bind(exchange, "ignored", nil)
	b.publishText(exchange, "a", "1")
	b.publishText(exchange, "", "2")
	b.holds(first, "1", "2")
	b.holds(second, "1", "2")
}

func TestTopicWildcardsStandForWords(t *testing.T) {
	b := open(t)
	exchange := b.exchange("topic", nil)
	star, hash, last := b.bind(exchange, "stock.*", nil), b.bind(exchange, "stock.#", nil), b.bind(exchange, "#.nyse", nil)
	for _, key := range []string{"stock", "stock.nyse", "stock.nyse.ibm", "bond.nyse"} {
		b.publishText(exchange, key, key)
	}
	b.holds(star, "stock.nyse")
	b.holds(hash, "stock", "stock.nyse", "stock.nyse.ibm")
	b.holds(last, "stock.nyse", "bond.nyse")
}

func TestHeadersMatchAllOrAny(t *testing.T) {
	b := open(t)
	exchange := b.exchange("headers", nil)
	all := b.bind(exchange, "", amqp.Table{"x-match": "all", "format": "pdf", "pages": int32(3)})
	some := b.bind(exchange, "", amqp.Table{"x-match": "any", "format": "pdf", "pages": int32(3)})
	b.publish(exchange, "", amqp.Publishing{Headers: amqp.Table{"format": "pdf", "pages": int32(3)}, Body: []byte("both")})
	b.publish(exchange, "", amqp.Publishing{Headers: amqp.Table{"format": "pdf"}, Body: []byte("one")})
	b.publish(exchange, "", amqp.Publishing{Headers: amqp.Table{"format": "txt"}, Body: []byte("none")})
	b.holds(all, "both")
	b.holds(some, "both", "one")
}

func TestExchangesBoundToExchangesPassMessagesOn(t *testing.T) {
	b := open(t)
	source, target := b.exchange("topic", nil), b.exchange("fanout", nil)
	queue := b.bind(target, "", nil)
	b.must(b.channel.ExchangeBind(target, "news.#", source, false, nil))
	b.publishText(source, "news.today", "through")
	b.publishText(source, "weather", "not")
	b.must(b.channel.ExchangeUnbind(target, "news.#", source, false, nil))
	b.publishText(source, "news.today", "later")
	b.holds(queue, "through")
}

func TestAnAlternateExchangeTakesWhatNobodyIsBoundFor(t *testing.T) {
	b := open(t)
	alternate := b.exchange("fanout", nil)
	queue := b.bind(alternate, "", nil)
	b.publishText(b.exchange("direct", amqp.Table{"alternate-exchange": alternate}), "unknown", "caught")
	b.holds(queue, "caught")
}

func TestUnbindingStopsTheFlowAndUnbindingAgainIsNoError(t *testing.T) {
	b := open(t)
	exchange := b.exchange("direct", nil)
	queue := b.bind(exchange, "key", nil)
	b.must(b.channel.QueueUnbind(queue, "key", exchange, nil))
	b.must(b.channel.QueueUnbind(queue, "key", exchange, nil))
	b.publishText(exchange, "key", "nobody")
	b.holds(queue)
}

func TestPublishingToAMissingExchangeIs404(t *testing.T) {
	b := open(t)
	b.closesChannel(404, "no exchange '", func(channel *amqp.Channel) error {
		return channel.Publish(unique("missing"), "", false, false, amqp.Publishing{})
	})
}

func TestRedeclaringAnExchangeOtherwiseIs406(t *testing.T) {
	b := open(t)
	exchange := b.exchange("direct", nil)
	b.closesChannel(406, "inequivalent arg 'type'", func(channel *amqp.Channel) error {
		return channel.ExchangeDeclare(exchange, "fanout", false, false, false, false, nil)
	})
}
