//! Confirms that wait for the store: by hand, and in any interleaving.

use std::collections::HashMap;

use leveret_protocol::method::*;
use proptest::prelude::*;

use super::Conversation;
use crate::model::{BrokerError, Progress, PublishSeqNo, Ticket, TicketRange, Verdict};
use crate::session::Request;

fn up_to(durable: u64) -> Progress {
    Progress {
        durable: Ticket(durable),
        ..Progress::default()
    }
}

fn confirming() -> Conversation {
    let mut client = Conversation::open();
    client.send(1, &ConfirmSelect { nowait: true });
    client
}

/// Publishes that many messages which wait for that ticket.
fn publish(client: &mut Conversation, count: usize, ticket: u64) {
    for _ in 0..count {
        client.publish("k", b"x");
    }
    client.run(|request, _| assert!(matches!(request, Request::Publish(_))));
    client.session.confirm_published(Ticket(ticket));
}

#[test]
fn a_confirm_waits_for_the_store_and_covers_all_that_is_stored() {
    let mut client = confirming();
    publish(&mut client, 2, 5);
    publish(&mut client, 1, 6);
    publish(&mut client, 1, 7);
    client.session.settle_confirms(&up_to(4));
    assert_eq!(client.output(), [""; 0]);
    assert!(client.session.waits_for_store());
    client.session.settle_confirms(&up_to(6));
    assert_eq!(client.output(), ["1: ack ..3"]);
    client.session.settle_confirms(&up_to(100));
    client.session.settle_confirms(&up_to(100));
    assert_eq!(client.output(), ["1: ack 4"]);
    assert!(!client.session.waits_for_store());
}

#[test]
fn what_waits_for_nothing_waits_for_those_before_it() {
    let mut client = confirming();
    publish(&mut client, 1, 0);
    assert_eq!(client.output(), ["1: ack 1"]);
    publish(&mut client, 1, 5);
    publish(&mut client, 1, 0);
    assert_eq!(client.output(), [""; 0]);
    client.session.settle_confirms(&up_to(5));
    publish(&mut client, 1, 0);
    assert_eq!(client.output(), ["1: ack ..3", "1: ack 4"]);
}

#[test]
fn what_could_not_be_stored_is_nacked() {
    let mut client = confirming();
    for ticket in 1..=6 {
        publish(&mut client, 2, ticket);
    }
    let failed = TicketRange {
        first: Ticket(2),
        last: Ticket(3),
    };
    client.session.settle_confirms(&Progress {
        durable: Ticket(4),
        failed: [failed].into(),
        stopped: false,
    });
    assert_eq!(client.output(), ["1: ack ..2", "1: nack ..6", "1: ack ..8"]);
    client.session.settle_confirms(&Progress {
        stopped: true,
        ..up_to(5)
    });
    assert_eq!(client.output(), ["1: ack ..10", "1: nack ..12"]);
    publish(&mut client, 1, 7);
    publish(&mut client, 1, 0);
    client.session.settle_confirms(&Progress {
        stopped: true,
        ..up_to(5)
    });
    assert_eq!(client.output(), ["1: nack 13", "1: ack 14"]);
}

/// Publishes as many messages as there are flags; a queue refuses those that
/// are flagged.
fn publish_refused(client: &mut Conversation, refused: &[bool], ticket: u64) {
    for _ in refused {
        client.publish("k", b"x");
    }
    let mut numbers = Vec::new();
    client.run(|request, _| match request {
        Request::Publish(publish) => numbers.push((publish.channel, publish.confirm)),
        other => panic!("{other:?}"),
    });
    for ((channel, number), _) in numbers.iter().zip(refused).filter(|(_, refused)| **refused) {
        client.session.nack_published(*channel, *number);
    }
    client.session.confirm_published(Ticket(ticket));
}

#[test]
fn just_what_a_queue_refused_is_nacked_in_its_turn() {
    for (shows, refused, ticket, at_once, once_stored) in [
        ("one", &[true][..], 0, &["1: nack 1"][..], &[][..]),
        ("all", &[true; 3], 0, &["1: nack ..3"], &[]),
        (
            "the first",
            &[true, false, false],
            0,
            &["1: nack 1", "1: ack ..3"],
            &[],
        ),
        (
            "the last",
            &[false, false, true],
            0,
            &["1: ack ..2", "1: nack 3"],
            &[],
        ),
        (
            "some between",
            &[false, true, true, false, true, false],
            0,
            &[
                "1: ack 1",
                "1: nack ..3",
                "1: ack 4",
                "1: nack 5",
                "1: ack 6",
            ],
            &[],
        ),
        (
            "behind what is to be stored",
            &[false, true, false],
            5,
            &[],
            &["1: ack 1", "1: nack 2", "1: ack 3"],
        ),
        (
            "in front of it",
            &[true, false],
            5,
            &["1: nack 1"],
            &["1: ack 2"],
        ),
    ] {
        let mut client = confirming();
        publish_refused(&mut client, refused, ticket);
        assert_eq!(client.output(), at_once, "{shows}");
        client.session.settle_confirms(&up_to(5));
        assert_eq!(client.output(), once_stored, "{shows}");
        assert!(!client.session.waits_for_store(), "{shows}");
    }
}

#[test]
fn without_confirms_nobody_hears_of_a_refused_publish() {
    let mut client = Conversation::open();
    publish_refused(&mut client, &[true, false], 0);
    client.session.nack_published(9, PublishSeqNo(1));
    client.session.confirm_published(Ticket(0));
    assert_eq!(client.output(), [""; 0]);
}

#[test]
fn a_number_opened_again_is_not_confirmed_what_it_published_before() {
    let mut client = confirming();
    publish(&mut client, 3, 5);
    client.send(1, &ChannelClose::default());
    client.run(|request, session| match request {
        Request::CloseChannel(channel) => {
            // What it awaits is forgotten already, or now.
            session.settle_confirms(&up_to(4));
            session.channel_released(channel);
        }
        other => panic!("{other:?}"),
    });
    assert!(!client.session.waits_for_store());
    client.send(1, &ChannelOpen { out_of_band: "" });
    client.send(1, &ConfirmSelect { nowait: true });
    publish(&mut client, 1, 6);
    client.session.settle_confirms(&up_to(5));
    assert_eq!(
        client.output(),
        ["1: channel.close-ok", "1: channel.open-ok"]
    );
    client.session.settle_confirms(&up_to(6));
    assert_eq!(client.output(), ["1: ack 1"]);
}

#[derive(Clone, Debug)]
enum Step {
    /// Publishes by channel, which queues refuse or not; then a ticket or none
    /// for all of them.
    Publish(Vec<(u16, bool)>, bool),
    /// A publish that is refused: the channel closes.
    Refused(u16),
    /// The client closes a channel and opens it again.
    Reopen(u16),
    /// The store decides some more tickets, the last of them failing or not.
    Decide(u64, bool),
    /// The gateway looks.
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = 1_u16..=3;
    let step = prop_oneof![
        6 => (prop::collection::vec((channel.clone(), any::<bool>()), 0..6), any::<bool>())
            .prop_map(|(channels, waits)| Step::Publish(channels, waits)),
        1 => channel.clone().prop_map(Step::Refused),
        1 => channel.prop_map(Step::Reopen),
        4 => (0_u64..4, any::<bool>()).prop_map(|(count, fails)| Step::Decide(count, fails)),
        4 => Just(Step::Look),
    ];
    prop::collection::vec(step, 0..60)
}

/// What a channel is owed, by tag: a failed ticket is a nack, and so is none.
#[derive(Default)]
struct Owed {
    tickets: Vec<Option<u64>>,
    answered: usize,
}

/// A client, a store and what each channel is owed.
struct World {
    client: Conversation,
    owed: HashMap<u16, Owed>,
    last_ticket: u64,
    decided: u64,
    failed: Vec<TicketRange>,
}

impl World {
    fn new() -> Self {
        let mut client = Conversation::open();
        client.send(2, &ChannelOpen { out_of_band: "" });
        client.send(3, &ChannelOpen { out_of_band: "" });
        for channel in 1..=3 {
            client.send(channel, &ConfirmSelect { nowait: true });
        }
        client.run(|request, _| panic!("{request:?}"));
        client.output();
        Self {
            client,
            owed: (1..=3).map(|channel| (channel, Owed::default())).collect(),
            last_ticket: 0,
            decided: 0,
            failed: Vec::new(),
        }
    }

    fn progress(&self, stopped: bool) -> Progress {
        Progress {
            durable: Ticket(self.decided),
            failed: self.failed.clone().into(),
            stopped,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Publish(channels, waits) => {
                let ticket = if *waits { self.last_ticket + 1 } else { 0 };
                self.last_ticket = self.last_ticket.max(ticket);
                for (channel, refused) in channels {
                    self.client.publish_on(*channel, "k", b"x");
                    let owed = self.owed.get_mut(channel).expect("there are three");
                    owed.tickets.push((!refused).then_some(ticket));
                }
                let mut numbers = Vec::new();
                self.client.run(|request, _| match request {
                    Request::Publish(publish) => numbers.push((publish.channel, publish.confirm)),
                    other => panic!("{other:?}"),
                });
                for ((channel, number), (_, refused)) in numbers.iter().zip(channels) {
                    if *refused {
                        self.client.session.nack_published(*channel, *number);
                    }
                }
                self.client.session.confirm_published(Ticket(ticket));
            }
            Step::Refused(channel) => {
                self.client.publish_on(*channel, "k", b"x");
                self.client.send(*channel, &ChannelCloseOk {});
                self.reopen(*channel);
            }
            Step::Reopen(channel) => {
                self.client.send(*channel, &ChannelClose::default());
                self.reopen(*channel);
            }
            Step::Decide(count, fails) => {
                let next = (self.decided + count).min(self.last_ticket);
                if *fails && next > self.decided {
                    let last = Ticket(next);
                    self.failed.push(TicketRange { first: last, last });
                }
                self.decided = next;
            }
            Step::Look => {
                let progress = self.progress(false);
                self.client.session.settle_confirms(&progress);
            }
        }
    }

    fn reopen(&mut self, channel: u16) {
        self.client.send(channel, &ChannelOpen { out_of_band: "" });
        self.client.send(channel, &ConfirmSelect { nowait: true });
        self.client.run(|request, session| match request {
            Request::Publish(publish) => {
                let error = BrokerError::Forbidden("no".to_owned());
                session.refuse_publish(publish.channel, &error);
            }
            Request::CloseChannel(channel) => {
                session.confirm_published(Ticket(0));
                session.channel_released(channel);
            }
            other => panic!("{other:?}"),
        });
        self.check(false);
        self.owed.insert(channel, Owed::default());
    }

    /// What was written answers each tag once, in order, and rightly.
    fn check(&mut self, stopped: bool) {
        let progress = self.progress(stopped);
        for line in self.client.output() {
            let words: Vec<&str> = line.split([':', ' ']).collect();
            let [channel, "", answer @ ("ack" | "nack"), tag] = words[..] else {
                continue;
            };
            let owed = self.owed.get_mut(&channel.parse().expect("a number"));
            let owed = owed.expect("there are three");
            let last: usize = tag.trim_start_matches("..").parse().expect("a tag");
            assert!(last > owed.answered, "{line} after {}", owed.answered);
            let several = last > owed.answered + 1;
            assert_eq!(
                tag.starts_with(".."),
                several,
                "{line} after {}",
                owed.answered
            );
            for ticket in &owed.tickets[owed.answered..last] {
                let verdict = match ticket {
                    Some(ticket) => progress.verdict(Ticket(*ticket)),
                    None => Verdict::Failed,
                };
                let wanted = match answer {
                    "ack" => Verdict::Stored,
                    _ => Verdict::Failed,
                };
                assert_eq!(verdict, wanted, "{line}: ticket {ticket:?}");
            }
            owed.answered = last;
        }
    }
}

proptest! {
    #[test]
    fn each_publish_is_answered_once_in_order_and_rightly(steps in steps(), stops in any::<bool>()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check(false);
        }
        if !stops {
            world.decided = world.last_ticket;
        }
        let last = world.progress(stops);
        world.client.session.settle_confirms(&last);
        world.check(stops);
        prop_assert!(!world.client.session.waits_for_store());
        for (channel, owed) in &world.owed {
            prop_assert_eq!(owed.answered, owed.tickets.len(), "channel {}", channel);
        }
    }
}
