//! Events on `amq.rabbitmq.event`, as the plugin `rabbitmq_event_exchange` has
//! them. A RabbitMQ without it takes no part.

use leveret::broker::Alarm;
use leveret::topology::BrokerFile;
use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Method};

use crate::dead_letters::texts;
use crate::support::broker::{embedded, unique};
use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::notices::{EVENTS, Told, Watcher, client_at, telling_broker};
use crate::support::{leveret_only, matched};

/// What differs from broker to broker and from run to run.
const VARYING: &[&str] = &["timestamp_in_ms", "pid", "channel", "node", "owner_pid"];

/// Headers of an event that somebody called guest has brought about, sorted by
/// name.
fn headers(more: &[(&str, FieldValue)]) -> Vec<(String, FieldValue)> {
    let by: (&str, FieldValue) = ("user_who_performed_action", "guest".into());
    let mut headers: Vec<_> = std::iter::once(&by)
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    headers
}

/// The next event of that key about something of that name.
#[track_caller]
fn named(watcher: &mut Watcher, key: &str, name: &str) -> Told {
    watcher.find(key, &[("name", name.into())])
}

#[test]
fn exchanges_queues_and_bindings_come_and_go() {
    let Some(address) = telling_broker() else {
        return;
    };
    let mut watcher = Watcher::new(address, EVENTS, &["#"]);
    let mut client = client_at(address);
    let (exchange, queue) = (unique("exchange"), unique("queue"));
    let vhost: (&str, FieldValue) = ("vhost", "/".into());

    let alternate: (&str, FieldValue) = ("alternate-exchange", "amq.fanout".into());
    client.ok(
        1,
        &ExchangeDeclare {
            exchange,
            kind: "topic",
            auto_delete: true,
            durable: true,
            arguments: FieldTable::from_iter([alternate]),
            ..ExchangeDeclare::default()
        },
    );
    let told = named(&mut watcher, "exchange.created", exchange);
    let shown = "{<<\"alternate-exchange\">>,longstr,<<\"amq.fanout\">>}";
    let expected = headers(&[
        vhost.clone(),
        ("name", exchange.into()),
        ("type", "topic".into()),
        ("durable", true.into()),
        ("auto_delete", true.into()),
        ("internal", false.into()),
        ("arguments", texts(&[shown])),
        ("policy", "".into()),
    ]);
    assert_eq!(told.headers_without(VARYING), expected);
    assert_eq!((&*told.body, told.delivery_mode), ("", Some(2)));
    let seconds = told.number("timestamp_in_ms") / 1_000;
    assert_eq!(told.timestamp, u64::try_from(seconds).ok());

    client.declare(
        1,
        &QueueDeclare {
            queue,
            arguments: FieldTable::from_iter([("x-max-length", FieldValue::I32(5))]),
            ..QueueDeclare::default()
        },
    );
    let told = named(&mut watcher, "queue.created", queue);
    let expected = headers(&[
        vhost.clone(),
        ("name", queue.into()),
        ("durable", false.into()),
        ("auto_delete", false.into()),
        ("exclusive", false.into()),
        ("arguments", texts(&["{<<\"x-max-length\">>,signedint,5}"])),
    ]);
    assert_eq!(told.headers_without(VARYING), expected);
    assert_eq!(told.text("owner_pid"), "");

    let bound = headers(&[
        vhost.clone(),
        ("source_name", exchange.into()),
        ("source_kind", "exchange".into()),
        ("destination_name", queue.into()),
        ("destination_kind", "queue".into()),
        ("routing_key", "a.#".into()),
        ("arguments", texts(&[])),
    ]);
    let of_it: [(&str, FieldValue); 1] = [("destination_name", queue.into())];
    client.bind(1, queue, exchange, "a.#");
    // What changes nothing is no event.
    client.bind(1, queue, exchange, "a.#");
    let told = watcher.find("binding.created", &of_it);
    assert_eq!(told.headers_without(VARYING), bound);

    client.bind_exchange(1, "amq.topic", exchange, "k");
    let to_exchange: [(&str, FieldValue); 3] = [
        ("source_name", exchange.into()),
        ("destination_name", "amq.topic".into()),
        ("destination_kind", "exchange".into()),
    ];
    watcher.find("binding.created", &to_exchange);

    // The queue goes with its binding, the exchange with its last one.
    client.delete_queue(1, queue);
    let told = watcher.find("binding.deleted", &of_it);
    let by = told.text("user_who_performed_action");
    assert_eq!(by, "rmq-internal", "the broker unbinds what it deletes");
    let by = &["user_who_performed_action"];
    let mut bound = bound;
    bound.retain(|(name, _)| !by.contains(&name.as_str()));
    assert_eq!(told.headers_without(&[VARYING, by].concat()), bound);
    let told = named(&mut watcher, "queue.deleted", queue);
    let expected = headers(&[vhost.clone(), ("name", queue.into())]);
    assert_eq!(told.headers_without(VARYING), expected);
    let unbind = ExchangeUnbind {
        destination: "amq.topic",
        source: exchange,
        routing_key: "k",
        ..ExchangeUnbind::default()
    };
    client.ok(1, &unbind);
    let told = named(&mut watcher, "exchange.deleted", exchange);
    let expected = headers(&[vhost, ("name", exchange.into())]);
    assert_eq!(told.headers_without(VARYING), expected);
    watcher.find("binding.deleted", &to_exchange);
}

#[test]
fn a_deleted_exchange_takes_its_bindings_along() {
    let Some(address) = telling_broker() else {
        return;
    };
    let mut watcher = Watcher::new(address, EVENTS, &["exchange.#", "binding.#"]);
    let mut client = client_at(address);
    let exchange = client.temp_exchange(1, "fanout");
    let queue = client.bound_queue(1, exchange, "k");
    client.delete_exchange(1, exchange);
    named(&mut watcher, "exchange.deleted", exchange);
    let binding: [(&str, FieldValue); 2] = [
        ("source_name", exchange.into()),
        ("destination_name", queue.into()),
    ];
    watcher.find("binding.deleted", &binding);
}

#[test]
fn connections_channels_and_consumers_come_and_go() {
    let Some(address) = telling_broker() else {
        return;
    };
    let keys = ["connection.#", "channel.#", "consumer.#", "queue.#"];
    let mut watcher = Watcher::new(address, EVENTS, &keys);
    let mut client = client_at(address);
    client.open_channel(7);
    let queue = client.temp_queue(1);
    let mine = named(&mut watcher, "queue.created", queue);
    let owner = mine.text("owner_pid").to_owned();
    assert!(owner.starts_with('<') && owner.ends_with('>'), "{owner}");
    client.qos(7, 3, false);
    let tag = client.consume_with(
        7,
        &BasicConsume {
            queue,
            arguments: FieldTable::from_iter([("x-priority", FieldValue::I32(2))]),
            ..BasicConsume::default()
        },
    );
    let of_it: [(&str, FieldValue); 1] = [("consumer_tag", tag.into())];
    let told = watcher.find("consumer.created", &of_it);
    let consumer = [
        ("vhost", FieldValue::from("/")),
        ("queue", queue.into()),
        ("consumer_tag", tag.into()),
    ];
    let more = [
        ("ack_required", FieldValue::Bool(true)),
        ("exclusive", false.into()),
        ("prefetch_count", FieldValue::I64(3)),
        ("arguments", texts(&["{<<\"x-priority\">>,signedint,2}"])),
    ];
    let expected = headers(&[&consumer[..], &more[..]].concat());
    assert_eq!(told.headers_without(VARYING), expected);
    let channel = told.text("channel").to_owned();
    client.cancel(7, tag);
    let told = watcher.find("consumer.deleted", &of_it);
    assert_eq!(told.headers_without(VARYING), headers(&consumer));
    assert_eq!(told.text("channel"), channel);

    // A channel takes its consumers along.
    let tag = client.consume(7, queue, true);
    client.close_channel(7);
    watcher.find("consumer.deleted", &[("consumer_tag", tag.into())]);
    let told = watcher.find("channel.closed", &[("pid", channel.as_str().into())]);
    assert_eq!(told.headers_without(VARYING), headers(&[]));
    drop(client);
    let pid: [(&str, FieldValue); 1] = [("pid", owner.as_str().into())];
    watcher.find("connection.closed", &pid);
}

#[test]
fn a_connection_says_where_it_comes_from() {
    let Some(address) = telling_broker() else {
        return;
    };
    let keys = ["connection.#", "channel.#", "user.#"];
    let mut watcher = Watcher::new(address, EVENTS, &keys);
    let client = client_at(address);
    let local = client
        .second_handle()
        .local_addr()
        .expect("it is connected");
    let name = format!("{local} -> {address}");
    let host: (&str, FieldValue) = ("host", "{127,0,0,1}".into());
    let peer: [(&str, FieldValue); 2] = [
        ("peer_host", "{127,0,0,1}".into()),
        ("peer_port", FieldValue::I64(local.port().into())),
    ];
    let told = watcher.find(
        "user.authentication.success",
        &[("connection_name", name.as_str().into())],
    );
    let mut expected = headers(&[
        host.clone(),
        peer[0].clone(),
        peer[1].clone(),
        ("name", "guest".into()),
        ("connection_name", name.as_str().into()),
        ("connection_type", "network".into()),
        ("protocol", "{0,9,1}".into()),
        ("auth_mechanism", "PLAIN".into()),
        ("ssl", false.into()),
    ]);
    expected.retain(|(name, _)| name != "user_who_performed_action");
    assert_eq!(told.headers_without(VARYING), expected);

    let told = named(&mut watcher, "connection.created", &name);
    let pid = told.text("pid").to_owned();
    let negotiated = ["channel_max", "frame_max", "timeout", "connected_at"];
    for number in negotiated {
        told.number(number);
    }
    // What Leveret does not tell, and what there is of TLS.
    let kept = told.headers_without(&[VARYING, &negotiated, &["client_properties"]].concat());
    let of_tls = |name: &str| name.starts_with("ssl_") || name.starts_with("peer_cert_");
    let kept: Vec<_> = kept.into_iter().filter(|(name, _)| !of_tls(name)).collect();
    let expected = headers(&[
        host,
        peer[0].clone(),
        peer[1].clone(),
        ("name", name.as_str().into()),
        ("port", FieldValue::I64(address.port().into())),
        ("type", "network".into()),
        ("protocol", "{0,9,1}".into()),
        ("auth_mechanism", "PLAIN".into()),
        ("ssl", false.into()),
        ("user", "guest".into()),
        ("vhost", "/".into()),
    ]);
    assert_eq!(kept, expected);

    let told = named(&mut watcher, "channel.created", &format!("{name} (1)"));
    assert_eq!(told.text("connection"), pid);
    assert_eq!(told.number("number"), 1);
    let channel = told.text("pid").to_owned();
    assert_ne!(channel, pid);
    client.drop_socket();
    // RabbitMQ has them in any order.
    let mut left = vec![("channel.closed", channel), ("connection.closed", pid)];
    while !left.is_empty() {
        let told = watcher.next();
        let pid = told.headers.get("pid").and_then(FieldValue::as_str);
        left.retain(|(key, of)| told.routing_key != *key || pid != Some(of));
    }
}

#[test]
fn a_login_that_fails_is_told() {
    let Some(address) = telling_broker() else {
        return;
    };
    let mut watcher = Watcher::new(address, EVENTS, &["user.authentication.failure"]);
    let user = unique("nobody");
    let login = Login {
        user,
        password: "wrong",
        ..Login::default()
    };
    let mut client = Client::dial_at(address);
    client.greet();
    client.start_ok(&login, "PLAIN", &login.plain());
    matched!(client.next_method(0), Method::ConnectionClose(close) =>
        assert_eq!(close.reply_code, 403));
    let told = named(&mut watcher, "user.authentication.failure", user);
    // RabbitMQ shows it as the list of numbers that an Erlang string is.
    assert!(told.headers.get("error").is_some());
    assert_eq!(told.text("auth_mechanism"), "PLAIN");
}

#[test]
fn alarms_and_virtual_hosts_are_told_of() {
    leveret_only!("raises alarms by hand");
    let broker = embedded("");
    let mut watcher = Watcher::new(broker.address, EVENTS, &["alarm.#", "vhost.#"]);
    let alarms = broker.node.alarms();
    for (alarm, source) in [(Alarm::Disk, "disk"), (Alarm::Memory, "memory")] {
        alarms.raise(alarm);
        alarms.raise(alarm);
        alarms.clear(alarm);
        for key in ["alarm.set", "alarm.cleared"] {
            let told = watcher.next();
            assert_eq!((told.routing_key, told.text("source")), (key, source));
        }
    }
    broker.node.ensure_vhost(&"other".into());
    broker.node.ensure_vhost(&"other".into());
    broker.node.ensure_vhost(&"third".into());
    for name in ["other", "third"] {
        let told = watcher.next();
        assert_eq!(
            (told.routing_key, told.text("name")),
            ("vhost.created", name)
        );
    }
}

#[test]
fn policies_are_told_of() {
    leveret_only!("changes policies as a file does");
    let broker = embedded("");
    let mut watcher = Watcher::new(broker.address, EVENTS, &["policy.#", "operator.#"]);
    let rule = |toml: &str| {
        let file = BrokerFile::parse("test.toml", toml).expect("the file is right");
        broker.node.rule_by(file.topology.rulebook);
    };
    let policy = |kind: &str, limit: u32| {
        format!(
            "[[{kind}]]\nname = \"p\"\npattern = \"^q\"\npriority = 7\n\
             apply_to = \"queues\"\ndefinition = {{ max-length = {limit} }}\n"
        )
    };
    for limit in [5, 6, 6] {
        rule(&policy("policy", limit));
    }
    rule(&policy("operator_policy", 8));
    rule("");
    for limit in [5, 6] {
        let told = watcher.next();
        assert_eq!(told.routing_key, "policy.set");
        let definition = [("max-length", FieldValue::I64(limit))];
        let mut expected = headers(&[
            ("name", "p".into()),
            ("vhost", "/".into()),
            ("pattern", "^q".into()),
            ("apply-to", "queues".into()),
            ("priority", FieldValue::I64(7)),
            ("definition", FieldTable::from_iter(definition).into()),
        ]);
        for (name, value) in &mut expected {
            if name == "user_who_performed_action" {
                *value = "rmq-internal".into();
            }
        }
        assert_eq!(told.headers_without(VARYING), expected);
    }
    for key in ["policy.cleared", "policy.set", "operator.policy.cleared"] {
        let told = watcher.next();
        assert_eq!((told.routing_key, told.text("name")), (key, "p"));
    }
}

#[test]
fn a_thousand_events_come_in_order() {
    let Some(address) = telling_broker() else {
        return;
    };
    let mut watcher = Watcher::new(address, EVENTS, &["queue.#"]);
    let mut client = client_at(address);
    let queue = unique("many");
    for _ in 0..500 {
        let declare = QueueDeclare {
            queue,
            nowait: true,
            ..QueueDeclare::default()
        };
        let delete = QueueDelete {
            queue,
            nowait: true,
            ..QueueDelete::default()
        };
        client.send(1, &declare);
        client.send(1, &delete);
    }
    client.sync(1);
    for at in 0..1_000 {
        let told = loop {
            let told = watcher.next();
            if told.text("name") == queue {
                break told;
            }
        };
        let key = ["queue.created", "queue.deleted"][at % 2];
        assert_eq!(told.routing_key, key, "event {at}");
    }
}

#[test]
fn nothing_is_told_while_nothing_is_bound() {
    leveret_only!("listens to everything");
    let Some(address) = telling_broker() else {
        return;
    };
    let mut watcher = Watcher::new(address, EVENTS, &["queue.created"]);
    let mut client = client_at(address);
    let first = client.temp_queue(1);
    assert_eq!(watcher.next().text("name"), first);
    watcher.unbind("queue.created");
    client.temp_queue(1);
    watcher
        .client
        .bind(1, watcher.queue, EVENTS, "queue.created");
    let third = client.temp_queue(1);
    assert_eq!(watcher.next().text("name"), third);
}

#[test]
fn clients_cannot_publish_to_it_or_delete_it() {
    let Some(address) = telling_broker() else {
        return;
    };
    let mut client = client_at(address);
    let delete = ExchangeDelete {
        exchange: EVENTS,
        ..ExchangeDelete::default()
    };
    let text =
        format!("ACCESS_REFUSED - deletion of system exchange '{EVENTS}' in vhost '/' not allowed");
    client.refused(1, &delete, 403, &text);
    client.publish(1, EVENTS, "queue.created", "forged");
    let text =
        format!("ACCESS_REFUSED - cannot publish to internal exchange '{EVENTS}' in vhost '/'");
    client.expect_channel_close(1, 403, &text);
}
