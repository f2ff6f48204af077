//! Routing by headers: messages are chosen by several properties at once,
//! none of which has to be squeezed into a routing key.
//!
//! A binding to a headers exchange lists headers and their values. With
//! `x-match: all` each of them must match, with `any` one is enough.
//!
//! ```text
//!                             ┌─ all: format=pdf, kind=report ─▶ printer
//! documents ─▶ (documents) ───┼─ any: urgent=true, kind=alarm  ─▶ desk
//!                             └─ all: format=pdf               ─▶ archive
//! ```
//!
//! Run it with `cargo run --example headers_routing [amqp://user:password@host:port/vhost]`.

use std::error::Error;

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};

const DOCUMENTS: &str = "example.documents";

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
            DOCUMENTS.into(),
            ExchangeKind::Headers,
            options,
            FieldTable::default(),
        )
        .await?;

    let mut receivers: Vec<(&str, ShortString)> = Vec::new();
    for (receiver, wanted) in [
        (
            "printer",
            table(&[("x-match", "all"), ("format", "pdf"), ("kind", "report")]),
        ),
        (
            "desk",
            table(&[("x-match", "any"), ("urgent", "true"), ("kind", "alarm")]),
        ),
        ("archive", table(&[("x-match", "all"), ("format", "pdf")])),
    ] {
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare("".into(), options, FieldTable::default())
            .await?;
        // The routing key means nothing to a headers exchange.
        channel
            .queue_bind(
                queue.name().clone(),
                DOCUMENTS.into(),
                "".into(),
                QueueBindOptions::default(),
                wanted,
            )
            .await?;
        receivers.push((receiver, queue.name().clone()));
    }

    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    for (title, headers) in [
        (
            "quarterly figures",
            table(&[("format", "pdf"), ("kind", "report")]),
        ),
        (
            "holiday photo",
            table(&[("format", "png"), ("kind", "picture")]),
        ),
        (
            "fire in the kitchen",
            table(&[("format", "text"), ("kind", "alarm")]),
        ),
        (
            "contract to sign",
            table(&[("format", "pdf"), ("kind", "contract"), ("urgent", "true")]),
        ),
    ] {
        channel
            .basic_publish(
                DOCUMENTS.into(),
                "".into(),
                BasicPublishOptions::default(),
                title.as_bytes(),
                BasicProperties::default().with_headers(headers),
            )
            .await?
            .await?;
    }

    for (receiver, queue) in receivers {
        while let Some(message) = channel
            .basic_get(queue.clone(), BasicGetOptions { no_ack: true })
            .await?
        {
            println!(
                "{receiver}: {}",
                String::from_utf8_lossy(&message.delivery.data)
            );
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

fn table(entries: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    table
}

/// Where the broker is: the first argument, else `AMQP_URI`, else this machine.
fn uri() -> String {
    std::env::args()
        .nth(1)
        .or_else(|| std::env::var("AMQP_URI").ok())
        .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}
