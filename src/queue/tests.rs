//! The rules of a classic queue, and the bugs of other brokers that it does not
//! have (named after their cause).

use std::sync::Arc;

use super::*;
use crate::model::{Body, ConnectionId, ConsumerKey, Message, Now, QueueSettings};

/// A queue with what its tests say again and again.
struct Bench {
    queue: Queue,
    published: u8,
}

impl Bench {
    fn new() -> Self {
        Self::with(QueueSettings::default())
    }

    fn with(settings: QueueSettings) -> Self {
        let queue = Queue::new(settings, NOW);
        Self {
            queue,
            published: 0,
        }
    }

    /// Publishes `count` messages; their numbers count from 0.
    fn publish(&mut self, count: u8) {
        let numbers = self.published..self.published + count;
        self.published += count;
        let mut messages = numbers
            .map(|number| Message::single("", "q", b"", &[number]))
            .collect();
        self.queue.publish(&mut messages, NOW);
    }

    fn consume(&mut self, spec: ConsumerSpec) -> ConsumerSlot {
        self.queue.consume(spec, NOW).expect("no exclusive one")
    }

    /// Delivers all that can go: consumer and number of each message.
    fn deliver(&mut self) -> Vec<(u32, u8)> {
        let deliveries = self.deliveries();
        let pair = |delivery: &Delivery| (delivery.consumer.0, number(&delivery.message));
        deliveries.iter().map(pair).collect()
    }

    fn deliveries(&mut self) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while self.queue.deliver(1, NOW, &mut deliveries) {}
        deliveries
    }

    fn settle(&mut self, deliveries: &[Delivery], outcome: Outcome) {
        let slots: Vec<_> = deliveries.iter().flat_map(|one| one.unsettled).collect();
        self.queue.settle(&slots, outcome, NOW);
    }
}

#[test]
fn consumers_take_turns_in_the_order_in_which_they_came() {
    let mut bench = Bench::new();
    let slots = [(); 3].map(|()| bench.consume(spec()).0);
    bench.publish(5);
    let [a, b, c] = slots;
    assert_eq!(bench.deliver(), [(a, 0), (b, 1), (c, 2), (a, 3), (b, 4)]);
    bench.publish(1);
    assert_eq!(bench.deliver(), [(c, 5)], "the turn outlives a delivery");
}

#[test]
fn a_lower_priority_is_served_only_while_the_higher_is_blocked() {
    let mut bench = Bench::new();
    let low = bench.consume(spec());
    let high = bench.consume(ConsumerSpec {
        priority: 10,
        prefetch: Some(2),
        ..spec()
    });
    bench.publish(3);
    assert_eq!(bench.deliver(), [(high.0, 0), (high.0, 1), (low.0, 2)]);

    bench.queue.cancel(low, NOW);
    bench.publish(1);
    assert_eq!(
        bench.deliver(),
        [],
        "it has no credit and there is no other"
    );
}

#[test]
fn prefetch_bounds_what_a_consumer_holds() {
    let mut bench = Bench::new();
    bench.consume(ConsumerSpec {
        prefetch: Some(2),
        ..spec()
    });
    bench.publish(4);
    let held = bench.deliveries();
    assert_eq!(held.len(), 2);
    bench.settle(&held[1..], Outcome::Ack);
    assert_eq!(bench.deliver(), [(0, 2)]);
    let counts = bench.queue.counts();
    assert_eq!((counts.ready, counts.unsettled, counts.settled), (1, 2, 1));
}

#[test]
fn prefetch_does_not_hold_for_consumers_without_ack() {
    let mut bench = Bench::new();
    bench.consume(ConsumerSpec {
        no_ack: true,
        prefetch: Some(1),
        ..spec()
    });
    bench.publish(3);
    assert_eq!(bench.deliver(), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(bench.queue.counts().settled, 3);
}

#[test]
fn a_channels_credit_is_shared_between_queues() {
    let credit = Arc::new(ChannelCredit::default());
    credit.set_limit(1);
    let shared = || ConsumerSpec {
        channel_credit: Some(Arc::clone(&credit)),
        ..spec()
    };
    let (mut one, mut other) = (Bench::new(), Bench::new());
    one.consume(shared());
    let waiting = other.consume(shared());
    one.publish(1);
    other.publish(1);

    let held = one.deliveries();
    assert_eq!(held.len(), 1);
    assert_eq!(other.deliver(), [], "the channel's credit is used up");
    one.settle(&held, Outcome::Ack);
    assert_eq!(other.deliver(), [], "it is skipped until it is resumed");
    other.queue.resume(waiting);
    assert_eq!(other.deliver(), [(0, 0)]);

    credit.set_limit(0);
    one.publish(2);
    assert_eq!(one.deliver(), [(0, 1), (0, 2)], "the limit was lifted");
}

#[test]
fn an_ack_after_the_cancel_gives_the_channel_its_credit_back() {
    let credit = Arc::new(ChannelCredit::default());
    let mut bench = Bench::new();
    let consumer = bench.consume(ConsumerSpec {
        channel_credit: Some(Arc::clone(&credit)),
        ..spec()
    });
    bench.publish(2);
    let held = bench.deliveries();
    bench.queue.cancel(consumer, NOW);
    assert_eq!(credit.held(), 2);
    bench.settle(&held, Outcome::Ack);
    assert_eq!(credit.held(), 0);
}

#[test]
fn a_queue_that_goes_gives_the_channel_its_credit_back() {
    let credit = Arc::new(ChannelCredit::default());
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.consume(ConsumerSpec {
            channel_credit: Some(Arc::clone(&credit)),
            ..spec()
        });
    }
    bench.publish(3);
    bench.deliveries();
    bench.queue.cancel(ConsumerSlot(0), NOW);
    assert_eq!(credit.held(), 3);
    drop(bench);
    assert_eq!(credit.held(), 0);
}

#[test]
fn a_parked_consumer_is_left_out_until_resumed() {
    let mut bench = Bench::new();
    let (one, other) = (bench.consume(spec()), bench.consume(spec()));
    bench.queue.park(one);
    bench.publish(2);
    assert_eq!(bench.deliver(), [(other.0, 0), (other.0, 1)]);
    bench.queue.resume(one);
    bench.publish(2);
    assert_eq!(bench.deliver(), [(other.0, 2), (one.0, 3)]);
}

#[test]
fn an_ack_does_not_unpark() {
    let mut bench = Bench::new();
    let consumer = bench.consume(ConsumerSpec {
        prefetch: Some(1),
        ..spec()
    });
    bench.publish(2);
    let held = bench.deliveries();
    bench.queue.park(consumer);
    bench.settle(&held, Outcome::Ack);
    assert_eq!(bench.deliver(), []);
    bench.queue.resume(consumer);
    assert_eq!(bench.deliver(), [(consumer.0, 1)]);
}

#[test]
fn requeued_messages_return_to_their_place() {
    let mut bench = Bench::new();
    bench.publish(4);
    let got: Vec<_> = (0..3)
        .flat_map(|_| bench.queue.get(false, NOW).message())
        .collect();
    let slot = |index: usize| got[index].unsettled.expect("got with ack");
    let requeue = Outcome::Requeue {
        redelivered: true,
        refused: true,
    };
    bench.queue.settle(&[slot(2), slot(0)], requeue, NOW);
    bench.consume(spec());
    let flags: Vec<_> = bench
        .deliveries()
        .iter()
        .map(|one| (number(&one.message), one.deliveries > 0))
        .collect();
    assert_eq!(flags, [(0, true), (2, true), (3, false)]);
}

#[test]
fn what_never_reached_the_client_keeps_its_flag() {
    let mut bench = Bench::new();
    bench.publish(1);
    for (redelivered, flag) in [(false, false), (false, false), (true, false), (false, true)] {
        let got = bench.queue.get(false, NOW).message().expect("it came back");
        assert_eq!(got.deliveries > 0, flag);
        let slot = got.unsettled.expect("got with ack");
        bench.queue.settle(
            &[slot],
            Outcome::Requeue {
                redelivered,
                refused: true,
            },
            NOW,
        );
    }
    assert!(
        bench
            .queue
            .get(true, NOW)
            .message()
            .expect("still there")
            .deliveries
            > 0
    );
}

#[test]
fn exclusive_consumers_and_others_exclude_each_other() {
    let exclusive = || ConsumerSpec {
        exclusive: true,
        ..spec()
    };
    let mut bench = Bench::new();
    let refused = Err(ConsumeRefused::ExclusiveUse);
    let only = bench.consume(exclusive());
    assert_eq!(bench.queue.consume(spec(), NOW), refused);
    assert_eq!(bench.queue.consume(exclusive(), NOW), refused);

    bench.publish(1);
    assert_eq!(bench.deliveries().len(), 1);
    bench.queue.cancel(only, NOW);
    bench.consume(spec());
    assert_eq!(
        bench.queue.consume(exclusive(), NOW),
        refused,
        "it wants the queue for itself"
    );
}

#[test]
fn auto_delete_waits_for_the_last_consumer() {
    let mut bench = Bench::with(QueueSettings {
        auto_delete: true,
        ..QueueSettings::default()
    });
    let (one, other) = (bench.consume(spec()), bench.consume(spec()));
    let mut delete = |slot| bench.queue.cancel(slot, NOW).map(|end| end.delete_queue);
    assert_eq!(delete(one), Some(false));
    assert_eq!(delete(one), None, "it has ended before");
    assert_eq!(delete(other), Some(true));
}

#[test]
fn purge_leaves_unsettled_messages_alone() {
    let mut bench = Bench::new();
    bench.publish(5);
    let got = bench
        .queue
        .get(false, NOW)
        .message()
        .expect("five are there");
    assert_eq!(got.ready_left, 4);
    assert_eq!(bench.queue.purge(), 4);
    let requeue = Outcome::Requeue {
        redelivered: true,
        refused: true,
    };
    let slot = got.unsettled.expect("got with ack");
    bench.queue.settle(&[slot], requeue, NOW);
    bench.publish(1);
    bench.consume(spec());
    assert_eq!(bench.deliver(), [(0, 0), (0, 5)]);
}

#[test]
fn the_budget_stops_a_delivery_but_not_the_first() {
    let mut bench = Bench::new();
    bench.consume(spec());
    bench.publish(3);
    let mut deliveries = Vec::new();
    assert!(bench.queue.deliver(0, NOW, &mut deliveries));
    assert_eq!(deliveries.len(), 1);
    assert!(!bench.queue.deliver(usize::MAX, NOW, &mut deliveries));
    assert_eq!(deliveries.len(), 3);
}

/// Bug museum 26 (LavinMQ #1344, #1921): a message was requeued twice.
#[test]
fn a_message_settled_twice_is_requeued_once() {
    let mut bench = Bench::new();
    bench.publish(1);
    let slot = bench
        .queue
        .get(false, NOW)
        .message()
        .and_then(|got| got.unsettled);
    let slot = slot.expect("got with ack");
    let requeue = Outcome::Requeue {
        redelivered: true,
        refused: true,
    };
    bench.queue.settle(&[slot, slot], requeue, NOW);
    bench.queue.settle(&[slot], requeue, NOW);
    bench.queue.settle(&[slot], Outcome::Discard, NOW);
    let counts = bench.queue.counts();
    assert_eq!((counts.ready, counts.unsettled, counts.settled), (1, 0, 0));
}

/// Bug museum 27 (LavinMQ #1440, #1420, #1254, #947): consumers of several
/// priorities stuck, or the deliver loop went on for ever.
#[test]
fn deliver_ends_and_leaves_nobody_waiting() {
    let credit = Arc::new(ChannelCredit::default());
    credit.set_limit(1);
    let mut bench = Bench::new();
    for priority in [3, 1, 2, 1] {
        bench.consume(ConsumerSpec {
            priority,
            prefetch: Some(1),
            channel_credit: Some(Arc::clone(&credit)),
            ..spec()
        });
    }
    bench.publish(20);
    let mut delivered = 0;
    for _ in 0..20 {
        let held = bench.deliveries();
        assert_eq!(held.len(), 1, "one credit is one message");
        delivered += held.len();
        bench.settle(&held, Outcome::Ack);
        (0..4).for_each(|slot| bench.queue.resume(ConsumerSlot(slot)));
    }
    assert_eq!(delivered, 20);
    assert!(!bench.queue.deliver(usize::MAX, NOW, &mut Vec::new()));
}

/// Bug museum 32 (RabbitMQ #12442, #14149, #15473): a requeue and a cancel
/// together lost a message, or nobody owned it for ever.
#[test]
fn requeue_after_cancel_loses_nothing() {
    let mut bench = Bench::new();
    let leaving = bench.consume(spec());
    bench.publish(3);
    let held = bench.deliveries();
    bench.queue.cancel(leaving, NOW);
    let counts = bench.queue.counts();
    assert_eq!((counts.unsettled, counts.consumers), (3, 0));
    bench.settle(&held[..1], Outcome::Ack);
    bench.settle(
        &held[1..],
        Outcome::Requeue {
            redelivered: true,
            refused: true,
        },
    );
    let next = bench.consume(spec());
    assert_eq!(bench.deliver(), [(next.0, 1), (next.0, 2)]);
}

/// Bug museum 34 (RabbitMQ 3.12 #9151, #9158): after churn with a reused
/// consumer tag nothing was delivered any more. Here the slot is what is reused.
#[test]
fn consumers_that_come_and_go_leave_the_queue_alive() {
    let mut bench = Bench::new();
    for round in 0..100 {
        let consumer = bench.consume(ConsumerSpec {
            prefetch: Some(1),
            ..spec()
        });
        bench.publish(1);
        let held = bench.deliveries();
        assert_eq!(held.len(), 1, "round {round}");
        match round % 3 {
            0 => bench.queue.park(consumer),
            1 => bench.settle(&held, Outcome::Ack),
            _ => {}
        }
        bench.queue.cancel(consumer, NOW);
        // What a dead connection still asks for must not reach the next one.
        bench.queue.park(consumer);
        bench.queue.resume(consumer);
        bench.settle(&held, Outcome::Ack);
    }
    let counts = bench.queue.counts();
    assert_eq!((counts.settled, counts.consumers), (100, 0));
}

#[test]
fn a_drained_backlog_gives_its_memory_back() {
    let mut bench = Bench::new();
    bench.consume(ConsumerSpec {
        prefetch: Some(u32::MAX),
        ..spec()
    });
    for _ in 0..400 {
        bench.published = 0;
        bench.publish(250);
    }
    let backlog = bench.queue.capacities();
    assert!(backlog.0 >= 100_000);
    let held = bench.deliveries();
    assert!(bench.queue.capacities().1 >= 100_000);
    bench.settle(&held, Outcome::Ack);
    let (log, unsettled) = bench.queue.capacities();
    assert!(log <= 1024 && unsettled <= 1024, "{log}, {unsettled}");
}

fn spec() -> ConsumerSpec {
    ConsumerSpec {
        key: ConsumerKey {
            connection: ConnectionId(1),
            serial: 1,
        },
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: None,
        channel_credit: None,
        arguments: Arc::default(),
    }
}

fn number(message: &Message) -> u8 {
    match message.body() {
        Body::Slice(&[number]) => number,
        _ => panic!("a test's message is one octet"),
    }
}

const NOW: Now = Now(std::time::Duration::ZERO);
