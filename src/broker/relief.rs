//! Keeps the memory of waiting messages within its bounds where queues do not
//! do so themselves: those that nobody publishes to, and the last messages of
//! many short ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{Node, QueueHost, Storage};

/// Works until it is dropped.
pub async fn relieve(node: Arc<Node>) {
    let Some(storage) = node.storage().cloned() else {
        return;
    };
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if storage.is_over() {
            // Looking at ten thousand queues takes a while.
            let (node, storage) = (Arc::clone(&node), Arc::clone(&storage));
            let round = tokio::task::spawn_blocking(move || write_out(&node, &storage));
            if let Err(error) = round.await {
                tracing::error!(%error, "writing messages out has panicked");
            }
        }
    }
}

/// Writes out what can be, the largest queues first.
fn write_out(node: &Node, storage: &Storage) {
    let vhosts: Vec<_> = node.vhosts.read().values().cloned().collect();
    let mut queues: Vec<(u64, Arc<QueueHost>)> = Vec::new();
    for vhost in vhosts {
        let hosts: Vec<_> = vhost.queues.read().values().cloned().collect();
        queues.extend(hosts.into_iter().map(|host| (host.resident_bytes(), host)));
    }
    queues.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    for (_, host) in queues {
        if !storage.is_over() {
            return;
        }
        host.relieve();
    }
}

/// How often the memory is looked at.
const INTERVAL: Duration = Duration::from_millis(200);
