//! What a real client makes of it all: lapin, unmodified.

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind,
    ExchangeKind,
};

use crate::support::broker::{broker, unique};

async fn connect() -> (Connection, Channel) {
    let uri = format!("amqp://guest:guest@{}/%2f", broker());
    let connection = Connection::connect(&uri, ConnectionProperties::default())
        .await
        .expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// A fresh queue of this connection.
async fn temp_queue(channel: &Channel) -> &'static str {
    let queue = unique("lapin");
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await
        .expect("a queue");
    queue
}

async fn publish(channel: &Channel, exchange: &str, routing_key: &str, body: &str) -> Confirmation {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    channel
        .basic_publish(
            exchange.into(),
            routing_key.into(),
            options,
            body.as_bytes(),
            BasicProperties::default(),
        )
        .await
        .expect("sent")
        .await
        .expect("confirmed")
}

#[tokio::test]
async fn messages_are_published_confirmed_consumed_and_acked() {
    let (connection, channel) = connect().await;
    let queue = temp_queue(&channel).await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    channel
        .basic_qos(10, BasicQosOptions::default())
        .await
        .expect("prefetch");
    let mut consumer = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    for at in 0..100 {
        assert!(matches!(
            publish(&channel, "", queue, &at.to_string()).await,
            Confirmation::Ack(None)
        ));
        let delivery = consumer
            .next()
            .await
            .expect("not cancelled")
            .expect("a message");
        assert_eq!(delivery.data, at.to_string().into_bytes());
        delivery
            .ack(BasicAckOptions::default())
            .await
            .expect("acked");
    }
    connection.close(200, "done".into()).await.expect("closed");
}

#[tokio::test]
async fn an_unroutable_message_is_returned_with_its_confirm() {
    let (_connection, channel) = connect().await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    let Confirmation::Ack(Some(returned)) = publish(&channel, "amq.direct", "nobody", "back").await
    else {
        panic!("expected the message with its ack");
    };
    assert_eq!(
        (returned.reply_code, returned.reply_text.as_str()),
        (312, "NO_ROUTE")
    );
    assert_eq!(returned.delivery.data, b"back");
}

#[tokio::test]
async fn an_error_closes_the_channel_and_leaves_the_connection() {
    let (connection, channel) = connect().await;
    let error = channel
        .queue_declare(
            "nowhere".into(),
            QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await
        .expect_err("no such queue");
    let ErrorKind::ProtocolError(error) = error.kind() else {
        panic!("{error:?}")
    };
    assert_eq!(error.kind(), &AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND));
    assert_eq!(
        error.get_message().as_str(),
        "NOT_FOUND - no queue 'nowhere' in vhost '/'"
    );
    let channel = connection.create_channel().await.expect("another channel");
    temp_queue(&channel).await;
}

#[tokio::test]
async fn a_consumer_ends_when_its_queue_is_deleted() {
    let (_connection, channel) = connect().await;
    let queue = temp_queue(&channel).await;
    let mut consumer = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await
        .expect("deleted");
    assert!(consumer.next().await.is_none());
}

#[tokio::test]
async fn topics_and_exchange_bindings_route() {
    let (_connection, channel) = connect().await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    let options = ExchangeDeclareOptions {
        auto_delete: true,
        ..ExchangeDeclareOptions::default()
    };
    let (logs, all) = (unique("logs"), unique("all"));
    for (exchange, kind) in [(logs, ExchangeKind::Topic), (all, ExchangeKind::Fanout)] {
        channel
            .exchange_declare(exchange.into(), kind, options, FieldTable::default())
            .await
            .expect("an exchange");
    }
    channel
        .exchange_bind(
            all.into(),
            logs.into(),
            "#".into(),
            ExchangeBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("bound");
    let (errors, everything) = (temp_queue(&channel).await, temp_queue(&channel).await);
    for (queue, exchange, key) in [(errors, logs, "*.error"), (everything, all, "")] {
        channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("bound");
    }
    for key in ["disk.error", "disk.info"] {
        assert!(matches!(
            publish(&channel, logs, key, key).await,
            Confirmation::Ack(None)
        ));
    }
    for (queue, expected) in [
        (errors, &["disk.error"][..]),
        (everything, &["disk.error", "disk.info"]),
    ] {
        for body in expected {
            let message = channel
                .basic_get(queue.into(), BasicGetOptions { no_ack: true })
                .await
                .expect("got")
                .expect("a message");
            assert_eq!(message.delivery.data, body.as_bytes());
        }
        assert!(
            channel
                .basic_get(queue.into(), BasicGetOptions { no_ack: true })
                .await
                .expect("got")
                .is_none()
        );
    }
}
