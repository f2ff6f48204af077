//! What `leveret route` predicts is what a real publish does: generated files,
//! a broker started from each, and messages over a socket.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::OnceLock;

use leveret::Broker;
use leveret::routing::Publish;
use leveret::topology::BrokerFile;
use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Method, Properties};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use tokio::runtime::Runtime;

use support::client::Client;
use support::handshake::Login;

/// A file's text and the messages to publish.
#[derive(Clone, Debug)]
struct Case {
    toml: String,
    queues: usize,
    messages: Vec<Sent>,
}

/// One message.
#[derive(Clone, Debug)]
struct Sent {
    exchange: String,
    key: String,
    cc: Vec<String>,
    bcc: Vec<String>,
    headers: Vec<(&'static str, Value)>,
}

/// A header's value, as TOML and the command line write it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Number(i32),
    Long(i64),
    Float(f64),
    Flag(bool),
    Text(&'static str),
}

#[derive(Clone, Debug)]
struct Exchange {
    kind: &'static str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    alternate: Option<usize>,
}

#[derive(Clone, Debug)]
struct Binding {
    from: usize,
    to_queue: bool,
    to: usize,
    key: String,
    arguments: Option<(&'static str, Matched)>,
}

/// Headers that a binding asks for; without a value any will do.
type Matched = Vec<(&'static str, Option<Value>)>;

const PREDECLARED: [&str; 5] = [
    "amq.direct",
    "amq.fanout",
    "amq.headers",
    "amq.match",
    "amq.topic",
];

impl Value {
    fn field(self) -> FieldValue {
        match self {
            Self::Number(number) => FieldValue::I32(number),
            Self::Long(number) => FieldValue::I64(number),
            Self::Float(number) => FieldValue::F64(number),
            Self::Flag(flag) => FieldValue::Bool(flag),
            Self::Text(text) => FieldValue::from(text),
        }
    }

    fn toml(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Long(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Flag(flag) => flag.to_string(),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    select(vec![
        Value::Number(0),
        Value::Number(1),
        Value::Long(1),
        Value::Long(1 << 40),
        Value::Float(1.0),
        Value::Flag(true),
        Value::Text("1"),
        Value::Text("x"),
        Value::Text(""),
    ])
}

fn header_name() -> impl Strategy<Value = &'static str> {
    select(vec!["colour", "size", "x-trace"])
}

/// A key of few words, so that patterns and keys meet.
fn key(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(select(words), 0..4).prop_map(|words| words.join("."))
}

fn routing_key() -> impl Strategy<Value = String> {
    prop_oneof![4 => key(&["a", "b", ""]), 1 => queue_name()]
}

fn queue_name() -> impl Strategy<Value = String> {
    (0usize..6).prop_map(|index| format!("q{index}"))
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let kind = select(vec!["direct", "fanout", "topic", "headers"]);
    let alternate = prop::option::weighted(0.4, 0usize..16);
    (
        kind,
        any::<[bool; 2]>(),
        prop::bool::weighted(0.15),
        alternate,
    )
        .prop_map(
            |(kind, [durable, auto_delete], internal, alternate)| Exchange {
                kind,
                durable,
                auto_delete,
                internal,
                alternate,
            },
        )
}

fn binding() -> impl Strategy<Value = Binding> {
    let mode = select(vec!["all", "any", "all-with-x", "any-with-x"]);
    let headers = prop::collection::btree_map(header_name(), prop::option::of(value()), 1..3);
    let arguments = (
        mode,
        headers.prop_map(|headers| headers.into_iter().collect()),
    );
    (
        any::<usize>(),
        prop::bool::weighted(0.6),
        any::<usize>(),
        key(&["a", "b", "*", "#", ""]),
        prop::option::of(arguments),
    )
        .prop_map(|(from, to_queue, to, key, arguments)| Binding {
            from,
            to_queue,
            to,
            key,
            arguments,
        })
}

fn sent(exchange: impl Strategy<Value = String>) -> impl Strategy<Value = Sent> {
    (
        exchange,
        routing_key(),
        prop::collection::vec(routing_key(), 0..2),
        prop::collection::vec(routing_key(), 0..2),
        prop::collection::btree_map(header_name(), value(), 0..3),
    )
        .prop_map(|(exchange, key, cc, bcc, headers)| Sent {
            exchange,
            key,
            cc,
            bcc,
            headers: headers.into_iter().collect(),
        })
}

prop_compose! {
    fn cases()(
        exchanges in prop::collection::vec(exchange(), 1..6),
        queues in prop::collection::vec(any::<[bool; 2]>(), 1..6),
        bindings in prop::collection::vec(binding(), 0..16),
    )(
        messages in {
            let mut targets = vec![String::new()];
            targets.extend(PREDECLARED.map(str::to_owned));
            // The generated ones are the interesting ones.
            for _ in 0..4 {
                let open = exchanges.iter().enumerate().filter(|(_, one)| !one.internal);
                targets.extend(open.map(|(index, _)| format!("e{index}")));
            }
            prop::collection::vec(sent(select(targets)), 1..12)
        },
        exchanges in Just(exchanges),
        queues in Just(queues),
        bindings in Just(bindings),
    ) -> Case {
        Case { toml: to_toml(&exchanges, &queues, &bindings), queues: queues.len(), messages }
    }
}

fn to_toml(exchanges: &[Exchange], queues: &[[bool; 2]], bindings: &[Binding]) -> String {
    let name = |index: usize| match index % (exchanges.len() + 2) {
        own if own < exchanges.len() => format!("e{own}"),
        _ => PREDECLARED[index % PREDECLARED.len()].to_owned(),
    };
    let mut toml = String::new();
    for (index, exchange) in exchanges.iter().enumerate() {
        let Exchange {
            kind,
            durable,
            auto_delete,
            internal,
            alternate,
        } = exchange;
        let _ = writeln!(
            toml,
            "[[exchange]]\nname = \"e{index}\"\ntype = \"{kind}\"\ndurable = {durable}\n\
             auto_delete = {auto_delete}\ninternal = {internal}"
        );
        match alternate {
            None => {}
            Some(0) => toml.push_str("alternate = \"nowhere\"\n"),
            Some(alternate) => {
                let _ = writeln!(toml, "alternate = \"{}\"", name(*alternate));
            }
        }
    }
    for (index, [durable, auto_delete]) in queues.iter().enumerate() {
        let _ = writeln!(
            toml,
            "[[queue]]\nname = \"q{index}\"\ndurable = {durable}\nauto_delete = {auto_delete}"
        );
    }
    for binding in bindings {
        let destination = match binding.to_queue {
            true => format!("to_queue = \"q{}\"", binding.to % queues.len()),
            false => format!("to_exchange = \"{}\"", name(binding.to)),
        };
        let _ = writeln!(
            toml,
            "[[binding]]\nfrom = \"{}\"\n{destination}\nkey = \"{}\"",
            name(binding.from),
            binding.key
        );
        if let Some((mode, headers)) = &binding.arguments {
            let valued: Vec<String> = headers
                .iter()
                .filter_map(|(name, value)| Some(format!("{name} = {}", (*value)?.toml())))
                .collect();
            let present: Vec<_> = headers
                .iter()
                .filter(|(_, value)| value.is_none())
                .map(|(name, _)| *name)
                .collect();
            let _ = writeln!(
                toml,
                "headers = {{ {} }}\npresent = {present:?}\nmatch = \"{mode}\"",
                valued.join(", ")
            );
        }
    }
    toml
}

impl Sent {
    fn keys(&self) -> Vec<&str> {
        let keys = std::iter::once(&self.key).chain(&self.cc).chain(&self.bcc);
        keys.map(String::as_str).collect()
    }

    fn headers(&self) -> FieldTable {
        let own = self.headers.iter();
        let mut headers: FieldTable = own.map(|(name, value)| (*name, value.field())).collect();
        for (name, keys) in [("CC", &self.cc), ("BCC", &self.bcc)] {
            if !keys.is_empty() {
                let keys = keys.iter().map(|key| FieldValue::from(key.as_str()));
                headers.insert(name, FieldValue::Array(keys.collect()));
            }
        }
        headers
    }
}

/// A broker started from a file, as long as this lives.
struct Running {
    broker: Option<Broker>,
    address: SocketAddr,
}

impl Running {
    fn start(file: &BrokerFile) -> Self {
        let mut config = file.config.clone();
        config.amqp.addresses = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let broker = runtime()
            .block_on(Broker::start_in_memory(&config, &file.topology))
            .expect("the broker starts");
        let address = broker.addresses()[0];
        Self {
            broker: Some(broker),
            address,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _inside = runtime().enter();
        drop(self.broker.take());
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"))
}

/// What a real publish of each message reaches.
struct Reached {
    /// By message, the queues in their order.
    queues: Vec<Vec<String>>,
    returned: BTreeSet<usize>,
}

fn publish(case: &Case, address: SocketAddr) -> Reached {
    let mut client = Client::connect_at(address, &Login::default());
    client.open_channel(1);
    client.ok(1, &ConfirmSelect::default());
    for (index, sent) in case.messages.iter().enumerate() {
        let publish = BasicPublish {
            exchange: &sent.exchange,
            routing_key: &sent.key,
            mandatory: true,
            ..BasicPublish::default()
        };
        let properties = Properties {
            headers: Some(sent.headers()),
            ..Properties::default()
        };
        client.publish_with(1, &publish, &properties, index.to_string().as_bytes());
    }
    let number = |octets: &[u8]| -> usize {
        let text = std::str::from_utf8(octets).expect("it was sent as text");
        text.parse().expect("it was sent as a number")
    };
    let mut returned = BTreeSet::new();
    let mut last_acked = 0;
    while last_acked < case.messages.len() as u64 {
        let incoming = client.next(1);
        match (incoming.method, incoming.content) {
            (Method::BasicReturn(_), Some(content)) => {
                assert!(returned.insert(number(&content.body)), "returned twice");
            }
            (Method::BasicAck(ack), None) => last_acked = ack.delivery_tag,
            other => panic!("expected a return or a confirm, got {other:?}"),
        }
    }
    let mut queues = vec![Vec::new(); case.messages.len()];
    for index in 0..case.queues {
        let queue = format!("q{index}");
        while let Some(delivery) = client.get(1, &queue, true) {
            queues[number(&delivery.content.body)].push(queue.clone());
        }
    }
    Reached { queues, returned }
}

/// What the library predicts, in the order of the queues' names.
fn predicted(case: &Case, file: &BrokerFile) -> Vec<Vec<String>> {
    let table = file.topology.routing_table(&"/".into());
    let queues = |sent: &Sent| {
        let (keys, headers) = (sent.keys(), sent.headers());
        let explanation = table.explain(&sent.exchange, &Publish::new(&keys, &headers));
        let names = explanation.queues.iter().map(|name| name.as_str());
        let mut names: Vec<_> = names
            .filter(|name| file.topology.queue(&"/".into(), &(*name).into()).is_some())
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    case.messages.iter().map(queues).collect()
}

fn parse(case: &Case) -> BrokerFile {
    BrokerFile::parse("generated.toml", &case.toml)
        .unwrap_or_else(|errors| panic!("{errors}\n{}", case.toml))
}

fn configuration(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => default.cases,
            None => cases,
        },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(configuration(500))]

    #[test]
    fn publishes_reach_what_is_predicted(case in cases()) {
        let file = parse(&case);
        let running = Running::start(&file);
        let reached = publish(&case, running.address);
        for (index, predicted) in predicted(&case, &file).into_iter().enumerate() {
            let sent = &case.messages[index];
            prop_assert_eq!(&reached.queues[index], &predicted, "{:?}\n{}", sent, case.toml);
            prop_assert_eq!(
                reached.returned.contains(&index), predicted.is_empty(),
                "{:?} reaches {:?}\n{}", sent, predicted, case.toml
            );
        }
    }
}

/// The same through the command, for fewer: each starts a process.
#[test]
fn the_command_predicts_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("leveret.toml");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut routed, mut unrouted) = (0, 0);
    for _ in 0..6 {
        let case = cases()
            .new_tree(&mut runner)
            .expect("nothing is filtered")
            .current();
        std::fs::write(&path, &case.toml).expect("the directory takes a file");
        let running = Running::start(&parse(&case));
        let reached = publish(&case, running.address);
        for (sent, reached) in case.messages.iter().zip(&reached.queues) {
            let mut arguments = vec!["route".to_owned(), path.display().to_string()];
            arguments.push(format!("--exchange={}", sent.exchange));
            arguments.extend(sent.keys().iter().map(|key| format!("--key={key}")));
            for (name, value) in &sent.headers {
                arguments.push(format!("--header={name}={}", value.toml()));
            }
            arguments.push("--json".to_owned());
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_leveret"))
                .args(&arguments)
                .env_clear()
                .output()
                .expect("the binary runs");
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            let json: serde_json::Value =
                serde_json::from_slice(&output.stdout).expect("an object");
            let queues = json["queues"].as_array().expect("a list");
            let mut queues: Vec<_> = queues.iter().filter_map(|name| name.as_str()).collect();
            queues.sort_unstable();
            assert_eq!(&queues, reached, "{arguments:?}\n{}", case.toml);
            match queues.is_empty() {
                true => unrouted += 1,
                false => routed += 1,
            }
        }
    }
    assert!(
        routed > 5 && unrouted > 5,
        "the cases are one-sided: {routed} routed, {unrouted} not"
    );
}
