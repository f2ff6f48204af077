//! What `leveret route` says is what happens: for generated files and messages
//! the queues it names are those that a publish reaches, each once.

use std::collections::BTreeSet;

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use leveret::Broker;
use leveret::model::{FieldValue, QueueName, VhostName};
use leveret::topology::BrokerFile;
use proptest::prelude::*;

/// A message as published.
#[derive(Clone, Debug)]
struct Publish {
    exchange: String,
    key: String,
    headers: Vec<(&'static str, Header)>,
}

/// A header's value; as TOML, as the router and as lapin have it.
#[derive(Clone, Debug)]
enum Header {
    Text(&'static str),
    Integer(i32),
    Flag(bool),
}

impl Header {
    fn toml(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }

    fn field(&self) -> FieldValue {
        match self {
            Self::Text(text) => FieldValue::from(*text),
            Self::Integer(number) => FieldValue::I32(*number),
            Self::Flag(flag) => FieldValue::Bool(*flag),
        }
    }

    fn lapin(&self) -> AMQPValue {
        match self {
            Self::Text(text) => AMQPValue::LongString(LongString::from(*text)),
            // Another width than the file's, which must not matter.
            Self::Integer(number) => AMQPValue::LongLongInt((*number).into()),
            Self::Flag(flag) => AMQPValue::Boolean(*flag),
        }
    }
}

// Few names, so that they meet.
const EXCHANGES: [&str; 4] = ["e0", "e1", "e2", "e3"];
const QUEUES: [&str; 4] = ["q0", "q1", "a", "a.b"];

fn headers() -> impl Strategy<Value = Vec<(&'static str, Header)>> {
    let value = prop_oneof![
        Just(Header::Text("v")),
        (1..3).prop_map(Header::Integer),
        any::<bool>().prop_map(Header::Flag),
    ];
    prop::collection::btree_map(prop::sample::select(vec!["h1", "h2", "x-h"]), value, 0..3)
        .prop_map(|headers| headers.into_iter().collect())
}

fn key(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..4).prop_map(|words| words.join("."))
}

/// `[[exchange]]` tables for all of [`EXCHANGES`].
fn exchanges() -> impl Strategy<Value = String> {
    let one = (
        prop::sample::select(vec!["direct", "fanout", "topic", "headers"]),
        prop::option::of(prop::sample::select(vec![
            "e0", "e1", "e2", "e3", "nowhere",
        ])),
    );
    prop::collection::vec(one, EXCHANGES.len()).prop_map(|exchanges| {
        let tables = EXCHANGES
            .iter()
            .zip(exchanges)
            .map(|(name, (kind, alternate))| {
                let alternate = alternate.map(|name| format!("alternate = {name:?}\n"));
                format!(
                    "[[exchange]]\nname = {name:?}\ntype = {kind:?}\n{}",
                    alternate.unwrap_or_default()
                )
            });
        tables.collect()
    })
}

fn binding() -> impl Strategy<Value = String> {
    let destination = prop_oneof![
        2 => prop::sample::select(&QUEUES[..]).prop_map(|queue| format!("to_queue = {queue:?}")),
        1 => prop::sample::select(&EXCHANGES[..]).prop_map(|name| format!("to_exchange = {name:?}")),
    ];
    let mode = prop::sample::select(vec!["all", "any", "all-with-x", "any-with-x"]);
    (
        prop::sample::select(&["e0", "e1", "e2", "e3", "amq.topic"][..]),
        destination,
        key(&["a", "b", "*", "#"]),
        headers(),
        mode,
    )
        .prop_map(|(source, destination, key, headers, mode)| {
            let matching = if headers.is_empty() {
                String::new()
            } else {
                let headers: Vec<String> = headers
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", value.toml()))
                    .collect();
                format!("headers = {{ {} }}\nmatch = {mode:?}\n", headers.join(", "))
            };
            format!("[[binding]]\nfrom = {source:?}\n{destination}\nkey = {key:?}\n{matching}")
        })
}

prop_compose! {
    fn file()(
        exchanges in exchanges(),
        bindings in prop::collection::vec(binding(), 0..12),
    ) -> String {
        let queues = QUEUES.iter().map(|queue| format!("[[queue]]\nname = {queue:?}\n"));
        exchanges + &queues.collect::<String>() + &bindings.concat()
    }
}

prop_compose! {
    fn publish()(
        exchange in prop::sample::select(vec!["e0", "e1", "e2", "e3", "amq.topic", ""]),
        key in key(&["a", "b"]),
        headers in headers(),
    ) -> Publish {
        Publish { exchange: exchange.to_owned(), key, headers }
    }
}

/// The queues that have the message, and how often.
async fn reached(channel: &Channel, publish: &Publish) -> lapin::Result<Vec<(String, u32)>> {
    let mut headers = FieldTable::default();
    for (name, value) in &publish.headers {
        headers.insert((*name).into(), value.lapin());
    }
    let properties = BasicProperties::default().with_headers(headers);
    let options = BasicPublishOptions::default();
    let (exchange, key) = (
        publish.exchange.as_str().into(),
        publish.key.as_str().into(),
    );
    let confirm = channel
        .basic_publish(exchange, key, options, b"", properties)
        .await?;
    confirm.await?;
    let mut reached = Vec::new();
    for queue in QUEUES {
        let purged = channel
            .queue_purge(queue.into(), QueuePurgeOptions::default())
            .await?;
        if purged > 0 {
            reached.push((queue.to_owned(), purged));
        }
    }
    Ok(reached)
}

async fn compare(text: &str, publishes: &[Publish]) -> Result<(), TestCaseError> {
    let mut file = BrokerFile::parse("generated.toml", text)
        .map_err(|errors| TestCaseError::fail(errors.to_string()))?;
    file.config.amqp.addresses = vec![([127, 0, 0, 1], 0).into()];
    let broker = Broker::start(&file.config, &file.topology)
        .await
        .expect("a free port");
    let connection = Connection::connect(&broker.uri(), ConnectionProperties::default())
        .await
        .expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");

    let vhost = VhostName::from("/");
    let table = file.topology.routing_table(&vhost);
    for publish in publishes {
        let headers = publish
            .headers
            .iter()
            .map(|(name, value)| (*name, value.field()));
        let explanation = table.explain(&publish.exchange, &[&publish.key], &headers.collect());
        let defined = |queue: &&QueueName| file.topology.queue(&vhost, queue).is_some();
        let predicted: BTreeSet<(String, u32)> = explanation
            .queues
            .iter()
            .filter(defined)
            .map(|queue| (queue.as_str().to_owned(), 1))
            .collect();
        let reached = reached(&channel, publish).await;
        let reached: BTreeSet<_> = reached
            .map_err(|error| TestCaseError::fail(error.to_string()))?
            .into_iter()
            .collect();
        prop_assert_eq!(reached, predicted, "{:?}\n{}", publish, explanation);
    }
    broker.shutdown().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(48)
    })]

    #[test]
    fn a_publish_reaches_the_queues_that_route_names(
        text in file(),
        publishes in prop::collection::vec(publish(), 1..12),
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(compare(&text, &publishes))?;
    }
}
