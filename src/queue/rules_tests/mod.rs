//! The rules that arguments and policies add, one by one; the model test mixes
//! them.

use std::time::Duration;

use super::model_test::message::{Spec, number};
use super::paging::Limits;
use super::*;
use crate::model::{
    ConnectionId, ConsumerKey, DeathReason, ExchangeName, Now, QueueRules, QueueSettings,
};

mod consumers;
mod limits;
mod restarts;
mod returns;
mod taking_back;
mod time;

/// A queue, its clock, and a host that does its duty after each command.
struct Bench {
    queue: Queue,
    now: u64,
    next: u64,
    delivered: Vec<Delivery>,
    refused: Vec<u64>,
}

impl Bench {
    fn with(rules: QueueRules) -> Self {
        Self::limited(rules, Limits::default())
    }

    fn limited(rules: QueueRules, limits: Limits) -> Self {
        Self::made(rules, Restored::default(), limits)
    }

    fn restored(rules: QueueRules, restored: Restored) -> Self {
        Self::made(rules, restored, Limits::default())
    }

    fn made(rules: QueueRules, restored: Restored, limits: Limits) -> Self {
        let settings = QueueSettings {
            rules,
            ..QueueSettings::default()
        };
        Self {
            queue: Queue::with_limits(settings, restored, limits, at(START)),
            now: START,
            next: 0,
            delivered: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Publishes a message; its number, which counts from 0.
    fn publish(&mut self, spec: &Spec) -> u64 {
        let number = self.next;
        self.next += 1;
        let mut messages = vec![spec.message(number, self.now)];
        let published = self.queue.publish(&mut messages, at(self.now));
        if !published.unplaced.is_empty() {
            self.refused.push(number);
        }
        self.do_duty();
        number
    }

    fn publish_all(&mut self, specs: &[Spec]) {
        for spec in specs {
            self.publish(spec);
        }
    }

    fn consume(&mut self, prefetch: u32) -> ConsumerSlot {
        self.consume_with(prefetch, 0)
    }

    fn consume_with(&mut self, prefetch: u32, priority: i32) -> ConsumerSlot {
        let spec = ConsumerSpec {
            key: ConsumerKey {
                connection: ConnectionId(1),
                serial: 1,
            },
            no_ack: false,
            exclusive: false,
            priority,
            prefetch: Some(prefetch),
            channel_credit: None,
            arguments: std::sync::Arc::default(),
        };
        let slot = self.queue.consume(spec, at(self.now)).expect("shared");
        self.do_duty();
        slot
    }

    fn advance(&mut self, millis: u64) {
        self.now += millis;
        self.do_duty();
    }

    fn do_duty(&mut self) {
        let now = at(self.now);
        while self.queue.deliver(1, now, &mut self.delivered) {}
        while let Some(due) = self.queue.next_due().filter(|due| *due <= self.now) {
            self.queue.tick(now);
            while self.queue.deliver(1, now, &mut self.delivered) {}
            if self.queue.next_due() == Some(due) {
                break;
            }
        }
        self.queue.enforce_limits();
    }

    /// What was delivered since this was asked last.
    fn delivered(&mut self) -> Vec<u64> {
        let held = std::mem::take(&mut self.delivered);
        held.iter().map(|one| number(&one.message)).collect()
    }

    fn held(&mut self) -> Vec<UnsettledSlot> {
        let held = std::mem::take(&mut self.delivered);
        held.iter().filter_map(|one| one.unsettled).collect()
    }

    /// Settles all that was delivered since this was called last.
    fn settle(&mut self, outcome: Outcome) {
        let held = self.held();
        self.queue.settle(&held, outcome, at(self.now));
        self.do_duty();
    }

    fn get(&mut self) -> Option<u64> {
        let got = self.queue.get(true, at(self.now)).message();
        self.do_duty();
        got.map(|got| number(&got.message))
    }

    fn get_all(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.get()).collect()
    }

    /// What died since this was asked last; it reaches its queues at once.
    fn dead(&mut self) -> Vec<(u64, DeathReason)> {
        let letters = std::mem::take(self.queue.letters());
        let slots: Vec<_> = letters.iter().map(|letter| letter.slot).collect();
        self.queue.settle(&slots, Outcome::Ack, at(self.now));
        self.do_duty();
        let pair = |letter: &DeadLetter| (number(&letter.message), letter.reason);
        letters.iter().map(pair).collect()
    }
}

fn at(time: u64) -> Now {
    Now(Duration::from_millis(time))
}

/// Rules with a dead letter exchange.
fn rules() -> QueueRules {
    QueueRules {
        dead_letter_exchange: Some(ExchangeName::from("dead")),
        ..QueueRules::default()
    }
}

fn plain() -> Spec {
    Spec::default()
}

fn expiring(ttl: u64) -> Spec {
    Spec {
        ttl: Some(ttl),
        ..Spec::default()
    }
}

fn urgent(priority: u8) -> Spec {
    Spec {
        priority: Some(priority),
        ..Spec::default()
    }
}

fn of_group(group: u8) -> Spec {
    Spec {
        group: Some(group),
        ..Spec::default()
    }
}

const REFUSED: Outcome = Outcome::Requeue {
    redelivered: true,
    refused: true,
};
const START: u64 = 1_000_000;
