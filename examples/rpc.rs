//! Remote procedure calls with direct reply-to: answers come straight back to
//! the channel that asked, without a queue for them.
//!
//! The caller consumes the pseudo-queue `amq.rabbitmq.reply-to` and gives it as
//! `reply_to`; the broker puts the channel's own address there. Several calls
//! may be under way, so each carries a `correlation_id` that its answer repeats.
//!
//! ```text
//! caller ── request, reply_to, correlation_id ──▶ example.rpc ──▶ server
//!    ▲                                                               │
//!    └──────────────── answer, correlation_id ──────────────────────┘
//! ```
//!
//! Run it with `cargo run --example rpc [amqp://user:password@host:port/vhost]`.

use std::collections::BTreeMap;
use std::error::Error;

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

const REQUESTS: &str = "example.rpc";
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri = uri();
    let server = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let server_channel = server.create_channel().await?;
    let options = QueueDeclareOptions {
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    server_channel
        .queue_declare(REQUESTS.into(), options, FieldTable::default())
        .await?;
    let serving = tokio::spawn(serve(server_channel.clone()));

    let client = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = client.create_channel().await?;
    // Before the first request, and without acks: nothing keeps an answer.
    let mut answers = channel
        .basic_consume(
            REPLY_TO.into(),
            "".into(),
            BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            },
            FieldTable::default(),
        )
        .await?;

    let mut waiting = BTreeMap::new();
    for number in [10_u64, 20, 40] {
        let correlation_id = format!("call-{number}");
        channel
            .basic_publish(
                "".into(),
                REQUESTS.into(),
                BasicPublishOptions::default(),
                number.to_string().as_bytes(),
                BasicProperties::default()
                    .with_reply_to(REPLY_TO.into())
                    .with_correlation_id(correlation_id.clone().into()),
            )
            .await?;
        waiting.insert(correlation_id, number);
    }

    while !waiting.is_empty() {
        let answer = answers
            .next()
            .await
            .ok_or("the reply consumer was cancelled")??;
        let Some(correlation_id) = answer.properties.correlation_id() else {
            continue;
        };
        if let Some(number) = waiting.remove(correlation_id.as_str()) {
            println!(
                "fibonacci({number}) = {}",
                String::from_utf8_lossy(&answer.data)
            );
        }
    }

    // With the queue its consumer ends, and so does the server.
    channel
        .queue_delete(REQUESTS.into(), QueueDeleteOptions::default())
        .await?;
    serving.await??;
    client.close(200, "done".into()).await?;
    server.close(200, "done".into()).await?;
    Ok(())
}

/// Answers each request at the address it carries.
async fn serve(channel: Channel) -> Result<(), lapin::Error> {
    let mut requests = channel
        .basic_consume(
            REQUESTS.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    while let Some(request) = requests.next().await {
        let request = request?;
        let number = String::from_utf8_lossy(&request.data).parse().unwrap_or(0);
        if let Some(reply_to) = request.properties.reply_to() {
            let mut properties = BasicProperties::default();
            if let Some(correlation_id) = request.properties.correlation_id() {
                properties = properties.with_correlation_id(correlation_id.clone());
            }
            // The address is a routing key of the default exchange.
            channel
                .basic_publish(
                    "".into(),
                    reply_to.clone(),
                    BasicPublishOptions::default(),
                    fibonacci(number).to_string().as_bytes(),
                    properties,
                )
                .await?;
        }
        request.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

fn fibonacci(number: u64) -> u64 {
    let (mut current, mut next) = (0_u64, 1_u64);
    for _ in 0..number {
        (current, next) = (next, current.wrapping_add(next));
    }
    current
}

/// Where the broker is: the first argument, else `AMQP_URI`, else this machine.
fn uri() -> String {
    std::env::args()
        .nth(1)
        .or_else(|| std::env::var("AMQP_URI").ok())
        .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}
