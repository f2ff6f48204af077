//! Logs by topic: each subscriber says by a pattern what it wants to see.
//!
//! A routing key is a list of words: here the service and the level. In a
//! binding `*` stands for one word and `#` for any number of them.
//!
//! ```text
//!                          ┌─ *.error    ─▶ pager
//! services ─▶ (logs) ──────┼─ billing.#  ─▶ billing team
//!                          └─ #          ─▶ archive
//! ```
//!
//! Run it with `cargo run --example topic_logs [amqp://user:password@host:port/vhost]`.

use std::error::Error;

use lapin::options::*;
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};

const LOGS: &str = "example.logs";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = Connection::connect(&uri(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions {
        auto_delete: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            LOGS.into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await?;

    let mut subscribers: Vec<(&str, ShortString)> = Vec::new();
    for (subscriber, pattern) in [
        ("pager", "*.error"),
        ("billing team", "billing.#"),
        ("archive", "#"),
    ] {
        // An empty name lets the server choose one; an exclusive queue goes
        // with this connection.
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare("".into(), options, FieldTable::default())
            .await?;
        channel
            .queue_bind(
                queue.name().clone(),
                LOGS.into(),
                pattern.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        subscribers.push((subscriber, queue.name().clone()));
    }

    // A confirm says that every queue that the message matched has it.
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    for (key, line) in [
        ("billing.info", "invoice 17 sent"),
        ("billing.error", "invoice 18 has no address"),
        ("search.error", "index is read-only"),
        ("search.debug.cache", "3 entries evicted"),
    ] {
        channel
            .basic_publish(
                LOGS.into(),
                key.into(),
                BasicPublishOptions::default(),
                line.as_bytes(),
                BasicProperties::default(),
            )
            .await?
            .await?;
    }

    for (subscriber, queue) in subscribers {
        while let Some(message) = channel
            .basic_get(queue.clone(), BasicGetOptions { no_ack: true })
            .await?
        {
            let line = String::from_utf8_lossy(&message.delivery.data);
            println!("{subscriber}: [{}] {line}", message.delivery.routing_key);
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Where the broker is: the first argument, else `AMQP_URI`, else this machine.
fn uri() -> String {
    std::env::args()
        .nth(1)
        .or_else(|| std::env::var("AMQP_URI").ok())
        .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}
