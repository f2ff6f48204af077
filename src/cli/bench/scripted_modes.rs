//! Conversations of loads other than messages with a scripted broker: who waits for what, and
//! what comes of a broker that refuses or says nothing.

use std::net::TcpListener;
use std::thread;

use leveret_protocol::method::{
    BasicConsumeOk, ChannelClose, ChannelCloseOk, ChannelOpenOk, ConnectionClose,
    ConnectionCloseOk, QueueDeclareOk, QueueDeleteOk,
};

use super::args::{Churn, Hold};
use super::churn;
use super::hold;
use super::mode::Mode;
use super::rpc;
use super::scripted::{Script, scenario};

fn churned(options: &str, script: impl FnOnce(&TcpListener) + Send) -> serde_json::Value {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scenario = scenario(&listener, options);
    let Mode::Churn { what, pipeline } = scenario.mode else {
        panic!("{options}");
    };
    let report = thread::scope(|scope| {
        scope.spawn(|| script(&listener));
        churn::execute(what, pipeline, &scenario).expect("the broker is there")
    });
    serde_json::to_value(report).expect("it is plain data")
}

/// Accepts the connection that declares, which has nothing to do, and the load's.
fn accept(listener: &TcpListener) -> (Script, Script) {
    (
        Script::accept_with(listener, 2_047),
        Script::accept_with(listener, 2_047),
    )
}

#[test]
fn each_channel_waits_for_its_answer() {
    let report = churned("--churn channels --pipeline 2 --count 3", |listener| {
        let (_control, mut broker) = accept(listener);
        for channel in [2, 3] {
            assert_eq!(broker.expect("channel.open"), channel);
        }
        broker.say(3, &ChannelOpenOk::default());
        assert_eq!(broker.expect("channel.close"), 3);
        broker.say(3, &ChannelCloseOk {});
        // The third one takes the place of the first that is done.
        assert_eq!(broker.expect("channel.open"), 3);
        for channel in [2, 3] {
            broker.say(channel, &ChannelOpenOk::default());
            assert_eq!(broker.expect("channel.close"), channel);
            broker.say(channel, &ChannelCloseOk {});
        }
        broker.expect("connection.close");
        broker.say(0, &ConnectionCloseOk {});
    });
    assert_eq!(
        (&report["passed"], &report["count"]),
        (&true.into(), &3.into())
    );
    assert_eq!(report["mode"], "churn-channels");
    assert!(report["latency_us"]["p50"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn a_queue_that_is_refused_ends_the_churn() {
    let report = churned("--churn queues --pipeline 1", |listener| {
        let (_control, mut broker) = accept(listener);
        broker.expect("channel.open");
        broker.say(2, &ChannelOpenOk::default());
        broker.expect("queue.declare");
        broker.say(2, &QueueDeclareOk::default());
        broker.expect("queue.delete");
        broker.say(2, &QueueDeleteOk { message_count: 0 });
        broker.expect("queue.declare");
        let close = ChannelClose {
            reply_code: 405,
            reply_text: "RESOURCE_LOCKED",
            class_id: 50,
            method_id: 10,
        };
        broker.say(2, &close);
    });
    assert_eq!(report["passed"], false);
    let error = report["errors"][0].as_str().unwrap_or_default();
    assert!(error.contains("405 RESOURCE_LOCKED"), "{report}");
}

#[test]
fn an_answer_to_another_question_ends_the_churn() {
    let report = churned("--churn channels --pipeline 1", |listener| {
        let (_control, mut broker) = accept(listener);
        broker.expect("channel.open");
        broker.say(2, &ChannelCloseOk {});
    });
    let error = report["errors"][0].as_str().unwrap_or_default();
    assert!(error.contains("unexpected channel.close-ok"), "{report}");
}

#[test]
fn a_broker_that_says_nothing_is_not_waited_for() {
    for (options, asks) in [
        ("--churn channels --drain-timeout 100ms", true),
        ("--churn connections --drain-timeout 100ms", false),
    ] {
        let report = churned(options, |listener| {
            let mut control = Script::accept_with(listener, 2_047);
            let mut load = asks.then(|| Script::accept_with(listener, 2_047));
            if let Some(load) = &mut load {
                load.expect("channel.open");
            }
            control.expect("connection.close");
        });
        let error = report["errors"][0].as_str().unwrap_or_default();
        assert!(error.contains("did not answer in time"), "{report}");
    }
}

#[test]
fn more_channels_than_the_broker_allows_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scenario = scenario(&listener, "--churn channels");
    thread::scope(|scope| {
        scope.spawn(|| {
            let _control = Script::accept_with(&listener, 100);
            let mut load = Script::accept_with(&listener, 100);
            load.expect("connection.close");
        });
        let refused = churn::execute(Churn::Channels, 100, &scenario);
        let text = refused.err().map(|error| error.to_string());
        assert_eq!(
            text.as_deref(),
            Some("the broker allows 100 channels on a connection: --pipeline needs more")
        );
    });
}

#[test]
fn a_held_connection_has_a_queue_and_a_consumer_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scenario = scenario(&listener, "--hold connections --count 1");
    let report = thread::scope(|scope| {
        scope.spawn(|| {
            let mut control = Script::accept_with(&listener, 2_047);
            let mut held = Script::accept_with(&listener, 2_047);
            held.expect("queue.declare");
            held.say(1, &QueueDeclareOk::default());
            held.expect("basic.consume");
            held.say(1, &BasicConsumeOk { consumer_tag: "c" });
            held.expect("connection.close");
            held.say(0, &ConnectionCloseOk {});
            control.expect("connection.close");
        });
        hold::execute(Hold::Connections, 1, 5, &scenario).expect("the broker is there")
    });
    assert!(report.passed, "{report}");
}

#[test]
fn a_connection_that_is_not_let_in_ends_the_holding() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scenario = scenario(&listener, "--hold connections --count 2");
    let report = thread::scope(|scope| {
        scope.spawn(|| {
            let mut control = Script::accept_with(&listener, 2_047);
            let mut held = Script::accept_with(&listener, 2_047);
            let close = ConnectionClose {
                reply_code: 530,
                reply_text: "NOT_ALLOWED",
                ..ConnectionClose::default()
            };
            held.expect("queue.declare");
            held.say(0, &close);
            held.expect("connection.close-ok");
            control.expect("connection.close");
        });
        hold::execute(Hold::Connections, 2, 1, &scenario).expect("the broker is there")
    });
    assert!(
        !report.passed && report.to_string().contains("530 NOT_ALLOWED"),
        "{report}"
    );
}

#[test]
fn a_reply_to_another_request_ends_the_asking() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scenario = scenario(&listener, "--rpc --count 5");
    let report = thread::scope(|scope| {
        scope.spawn(|| {
            let mut control = Script::accept_with(&listener, 2_047);
            control.expect("queue.delete");
            control.say(1, &QueueDeleteOk { message_count: 0 });
            for _ in 0..2 {
                control.expect("queue.declare");
                control.say(1, &QueueDeclareOk::default());
            }
            let mut responder = Script::accept_with(&listener, 2_047);
            responder.expect("basic.consume");
            responder.say(1, &BasicConsumeOk { consumer_tag: "0" });
            let mut requester = Script::accept_with(&listener, 2_047);
            requester.expect("basic.consume");
            requester.say(1, &BasicConsumeOk { consumer_tag: "0" });
            let first = requester.publish();
            requester.deliver(1, &first);
            requester.publish();
            requester.deliver(2, &first);
            control.expect("queue.delete");
            control.say(1, &QueueDeleteOk { message_count: 0 });
            responder.expect("connection.close");
        });
        rpc::execute(&scenario).expect("the broker is there")
    });
    let text = report.to_string();
    assert!(
        !report.passed && text.contains("reply to another request"),
        "{text}"
    );
    assert!(text.contains("(1 in all)"), "{text}");
}
