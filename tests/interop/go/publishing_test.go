package interop

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// bodyOf gives bytes whose period is no divisor of a frame, so that a misplaced frame shows.
func bodyOf(size int) []byte {
	period := make([]byte, 251)
	for i := range period {
		period[i] = byte(i)
	}
	return bytes.Repeat(period, size/251+1)[:size]
}

func TestEveryMessageIsConfirmedInAnyGrouping(t *testing.T) {
	b := open(t)
	queue, channel := b.queue(), b.openChannel()
	b.must(channel.Confirm(false))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 500))
	for i := 0; i < 500; i++ {
		b.must(channel.Publish("", queue, false, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, Body: []byte(fmt.Sprint(i))}))
	}
	for i := 1; i <= 500; i++ {
		select {
		case confirm := <-confirms:
			b.equal(confirm, amqp.Confirmation{DeliveryTag: uint64(i), Ack: true}, "confirm")
		case <-time.After(deadline):
			t.Fatalf("no confirm for message %d", i)
		}
	}
	b.equal(b.ready(queue), 500, "ready")
}

func TestAMandatoryUnroutableMessageIsReturnedBeforeItsConfirm(t *testing.T) {
	b := open(t)
	name := unique("missing")
	b.must(b.channel.Confirm(false))
	returns := b.channel.NotifyReturn(make(chan amqp.Return, 1))
	confirms := b.channel.NotifyPublish(make(chan amqp.Confirmation, 1))
	b.must(b.channel.Publish("", name, true, false, amqp.Publishing{MessageId: "7", Body: []byte("back")}))
	b.eventually(func() bool { return len(confirms) == 1 }, "the confirm")
	b.equal((<-confirms).Ack, true, "acknowledged")
	b.equal(len(returns), 1, "returns by then")
	returned := <-returns
	b.equal(returned.ReplyCode, uint16(312), "code")
	b.equal(returned.ReplyText, "NO_ROUTE", "text")
	b.equal(returned.RoutingKey, name, "key")
	b.equal(returned.MessageId+" "+string(returned.Body), "7 back", "message")
}

func TestAMegabyteArrivesUnchanged(t *testing.T) {
	b := open(t)
	queue, body := b.queue(), bodyOf(1<<20)
	b.publish("", queue, amqp.Publishing{Body: body})
	b.equal(bytes.Equal(b.next(b.consume(b.channel, queue, true, nil)).Body, body), true, "same body")
}

func TestALargeBodyThroughAFanoutReachesThreeQueuesUnchanged(t *testing.T) {
	b := open(t)
	exchange, body := b.exchange("fanout", nil), bodyOf(140_000)
	queues := []string{b.bind(exchange, "", nil), b.bind(exchange, "", nil), b.bind(exchange, "", nil)}
	b.publish(exchange, "", amqp.Publishing{Body: body})
	for _, queue := range queues {
		b.holds(queue, string(body))
	}
}

func TestAnEmptyBodyArrivesEmpty(t *testing.T) {
	b := open(t)
	queue := b.queue()
	b.fill(queue, "", "next")
	b.holds(queue, "", "next")
}

func TestAllPropertiesAndHeaderTypesArriveUnchanged(t *testing.T) {
	b := open(t)
	queue, now := b.queue(), time.Unix(1_700_000_000, 0)
	sent := amqp.Publishing{
		Headers: amqp.Table{
			"text": "grüße", "bytes": []byte{0, 255}, "yes": true, "no": false, "nothing": nil,
			"int8": int8(-128), "uint8": byte(255), "int16": int16(-32768), "int32": int32(-1 << 31),
			"int64": int64(-1 << 63), "float32": float32(1.5), "float64": 3.14159265358979, "time": now,
			"decimal": amqp.Decimal{Scale: 2, Value: 314}, "list": []interface{}{int32(1), "two", nil, []interface{}{true}},
			"table": amqp.Table{"deep": amqp.Table{"er": "yes"}},
		},
		ContentType: "application/json", ContentEncoding: "gzip", DeliveryMode: amqp.Persistent, Priority: 5,
		CorrelationId: "correlation", ReplyTo: "somewhere", MessageId: "id", Timestamp: now, Type: "kind",
		UserId: b.user(), AppId: "application", Body: []byte("{}"),
	}
	b.publish("", queue, sent)
	got := b.take(queue)[0]
	received := amqp.Publishing{
		Headers: got.Headers, ContentType: got.ContentType, ContentEncoding: got.ContentEncoding,
		DeliveryMode: got.DeliveryMode, Priority: got.Priority, CorrelationId: got.CorrelationId, ReplyTo: got.ReplyTo,
		MessageId: got.MessageId, Timestamp: got.Timestamp, Type: got.Type, UserId: got.UserId, AppId: got.AppId,
		Body: got.Body,
	}
	if !reflect.DeepEqual(received, sent) {
		t.Fatalf("got  %#v\nwant %#v", received, sent)
	}
}

func (b *broker) user() string {
	uri, err := amqp.ParseURI(address())
	b.must(err)
	return uri.Username
}

func TestCcAndBccAddRoutingKeysAndBccIsNotShown(t *testing.T) {
	b := open(t)
	to, cc, bcc := b.queue(), b.queue(), b.queue()
	b.publish("", to, amqp.Publishing{Body: []byte("copied"), Headers: amqp.Table{
		"CC": []interface{}{cc}, "BCC": []interface{}{bcc}}})
	for _, queue := range []string{to, cc, bcc} {
		message := b.take(queue)[0]
		b.equal(message.RoutingKey, to, "key")
		b.equal(fmt.Sprint(message.Headers), fmt.Sprint(amqp.Table{"CC": []interface{}{cc}}), "headers")
	}
}

func TestOneRpcThroughDirectReplyTo(t *testing.T) {
	b := open(t)
	requests, server := b.queue(), b.openChannel()
	calls := b.consume(server, requests, true, nil)
	answers := b.consume(b.channel, "amq.rabbitmq.reply-to", true, nil)
	for _, id := range []string{"1", "2", "3"} {
		b.must(b.channel.Publish("", requests, false, false, amqp.Publishing{
			ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: id, Body: []byte("hello")}))
		call := b.next(calls)
		b.must(server.Publish("", call.ReplyTo, false, false, amqp.Publishing{
			CorrelationId: call.CorrelationId, Body: bytes.ToUpper(call.Body)}))
		answer := b.next(answers)
		b.equal(answer.CorrelationId+" "+string(answer.Body), id+" HELLO", "answer")
	}
}

func TestATransactionShowsItsMessagesOnCommitAndForgetsThemOnRollback(t *testing.T) {
	b := open(t)
	queue, writer := b.queue(), b.openChannel()
	b.must(writer.Tx())
	b.must(writer.Publish("", queue, false, false, amqp.Publishing{Body: []byte("1")}))
	b.equal(b.ready(queue), 0, "ready before the commit")
	b.must(writer.TxCommit())
	b.equal(b.ready(queue), 1, "ready after it")
	b.must(writer.Publish("", queue, false, false, amqp.Publishing{Body: []byte("2")}))
	b.must(writer.TxRollback())
	b.must(writer.TxCommit())
	b.holds(queue, "1")
}

func TestAnAcknowledgementRolledBackMayBeCommittedLater(t *testing.T) {
	b := open(t)
	queue, worker := b.queue(), b.openChannel()
	b.fill(queue, strings.Fields("1 2")...)
	b.must(worker.Tx())
	message := b.get(worker, queue)
	b.must(message.Ack(false))
	b.must(worker.TxRollback())
	b.must(message.Ack(false))
	b.must(worker.TxCommit())
	b.must(worker.Close())
	b.holds(queue, "2")
}
