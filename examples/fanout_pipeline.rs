//! A pipeline of three stages, joined by fan-out exchanges.
//!
//! A fan-out exchange copies each message to every queue bound to it. A stage
//! does not know who listens to it: the audit below joins without a change to
//! anybody else.
//!
//! ```text
//! sensor ─▶ (readings) ─┬─▶ 1 clean ─▶ (clean) ─▶ 2 convert ─▶ (converted) ─▶ 3 report
//!                       └─▶ audit
//! ```
//!
//! Run it with `cargo run --example fanout_pipeline [amqp://user:password@host:port/vhost]`.

use std::error::Error;

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};

const READINGS: &str = "example.readings";
const CLEAN: &str = "example.clean";
const CONVERTED: &str = "example.converted";
/// The message type that tells each stage to pass it on and stop.
const END: &str = "end";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = Connection::connect(&uri(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for exchange in [READINGS, CLEAN, CONVERTED] {
        // The exchange goes with the last queue bound to it.
        let options = ExchangeDeclareOptions {
            auto_delete: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                exchange.into(),
                ExchangeKind::Fanout,
                options,
                FieldTable::default(),
            )
            .await?;
    }

    // Who listens must do so before anybody speaks: a fan-out exchange without
    // queues drops what it gets.
    let stages = [
        tokio::spawn(stage(
            channel.clone(),
            subscribe(&channel, READINGS).await?,
            Some(CLEAN),
            clean,
        )),
        tokio::spawn(stage(
            channel.clone(),
            subscribe(&channel, CLEAN).await?,
            Some(CONVERTED),
            convert,
        )),
        tokio::spawn(stage(
            channel.clone(),
            subscribe(&channel, CONVERTED).await?,
            None,
            report,
        )),
        tokio::spawn(stage(
            channel.clone(),
            subscribe(&channel, READINGS).await?,
            None,
            audit,
        )),
    ];

    for reading in ["20.5", "21.0", "broken", "-40", "22.5"] {
        publish(&channel, READINGS, reading, BasicProperties::default()).await?;
    }
    publish(
        &channel,
        READINGS,
        "",
        BasicProperties::default().with_type(END.into()),
    )
    .await?;

    for stage in stages {
        stage.await??;
    }
    println!("the pipeline has run dry");
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Stage 1 lets through what is a number.
fn clean(reading: &str) -> Option<String> {
    let number = reading.parse::<f64>();
    if number.is_err() {
        println!("clean: dropped '{reading}'");
    }
    number.ok().map(|celsius| celsius.to_string())
}

/// Stage 2 converts from Celsius to Fahrenheit.
fn convert(celsius: &str) -> Option<String> {
    let celsius: f64 = celsius.parse().ok()?;
    Some(format!(
        "{celsius} °C are {} °F",
        celsius * 9.0 / 5.0 + 32.0
    ))
}

/// Stage 3 is the end of the line.
fn report(line: &str) -> Option<String> {
    println!("report: {line}");
    None
}

/// Listens beside stage 1 and sees everything.
fn audit(reading: &str) -> Option<String> {
    println!("audit: {reading}");
    None
}

/// Takes each message, lets `work` make another of it, and passes that on.
async fn stage(
    channel: Channel,
    mut input: Consumer,
    output: Option<&'static str>,
    work: fn(&str) -> Option<String>,
) -> Result<(), lapin::Error> {
    while let Some(delivery) = input.next().await {
        let delivery = delivery?;
        let is_end = delivery
            .properties
            .kind()
            .as_ref()
            .is_some_and(|kind| kind.as_str() == END);
        let text = String::from_utf8_lossy(&delivery.data);
        let result = if is_end {
            Some(String::new())
        } else {
            work(&text)
        };
        if let (Some(result), Some(exchange)) = (result, output) {
            let properties = if is_end {
                BasicProperties::default().with_type(END.into())
            } else {
                BasicProperties::default()
            };
            publish(&channel, exchange, &result, properties).await?;
        }
        // Acknowledged only after its result is on its way: a stage that dies
        // in between does the work again, and loses nothing.
        delivery.ack(BasicAckOptions::default()).await?;
        if is_end {
            break;
        }
    }
    Ok(())
}

/// A queue of one's own, named by the server, with a copy of everything.
async fn subscribe(channel: &Channel, exchange: &str) -> Result<Consumer, lapin::Error> {
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
            exchange.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    channel
        .basic_consume(
            queue.name().clone(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    body: &str,
    properties: BasicProperties,
) -> Result<(), lapin::Error> {
    channel
        .basic_publish(
            exchange.into(),
            "".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            properties,
        )
        .await?
        .await?;
    Ok(())
}

/// Where the broker is: the first argument, else `AMQP_URI`, else this machine.
fn uri() -> String {
    std::env::args()
        .nth(1)
        .or_else(|| std::env::var("AMQP_URI").ok())
        .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}
