//! Load, crash, restart, check; again and again, with one ledger over all.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::drain::{self, Drain};
use super::ledger::{QueueIndex, TX_IN};
use super::load::{ClientEnd, Load, Manner, Truth};
use super::mix::{self, Features, MIXES, Worker};
use super::process::{Broker, Log};
use super::random::{Random, count, seed};
use super::site::{Crash, Site};
use super::wire::Gone;

/// Findings that a failure shows.
const FINDINGS_SHOWN: usize = 25;

/// How long the load lasts before a clean stop.
const STOP_AFTER: Duration = Duration::from_millis(600);

/// The load wants the machine for itself: its times mean something.
static ALONE: Mutex<()> = Mutex::new(());

/// One cycle, as the seed has it.
#[derive(Clone, Debug)]
struct Plan {
    /// On an empty directory.
    fresh: bool,
    /// Lives that end that long after their process started, whatever it was
    /// doing: starting for the first time, recovering, or already serving.
    early: Vec<Duration>,
    drain: Drain,
    load: Load,
    /// From the first moment of the load on.
    lasts: Duration,
    crash: Crash,
    /// Of the directory's queues.
    features: [Features; MIXES],
}

/// Cycles on one directory.
const CYCLES_ON_ONE: usize = 10;

impl Plan {
    fn new(seed: u64, cycle: usize) -> Self {
        let mut random = Random::new(&[seed, cycle as u64]);
        let fresh = cycle.is_multiple_of(CYCLES_ON_ONE);
        let mut early = Vec::new();
        if fresh || random.one_in(4) {
            early.push(random.time(0, 120));
            if random.one_in(3) {
                early.push(random.time(0, 60));
            }
        }
        let drain = match random.below(8) {
            _ if fresh => Drain::Keep,
            0..4 => Drain::Keep,
            4 => Drain::Look,
            _ => Drain::Take,
        };
        let crash = if random.one_in(2) {
            Crash::Kill
        } else {
            Crash::DiskFirst(random.time(0, 150))
        };
        let lasts = random.time(20, 2_000);
        let directory = cycle / CYCLES_ON_ONE;
        let features = Features::choose(&mut Random::new(&[!seed, directory as u64]));
        Self {
            fresh,
            early,
            drain,
            load: random_load(&mut random, lasts, &features),
            lasts,
            crash,
            features,
        }
    }
}

/// How a broker's life ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// SIGTERM.
    Stop,
    Crash(Crash),
}

fn random_load(random: &mut Random, lasts: Duration, features: &[Features; MIXES]) -> Load {
    let mut consumers = Vec::new();
    for queue in 0..TX_IN {
        let manner = match random.below(9) {
            0 | 1 => Manner::AckEach,
            2 => Manner::AckMany(1 + random.below(20)),
            3 => Manner::Requeue,
            4 => Manner::Get,
            5 => Manner::Hold,
            // The backlog grows.
            _ => continue,
        };
        consumers.push((queue, manner));
    }
    Load {
        seed: random.next(),
        messages_max: *random.pick(&[20, 100, 300, 300, 1_000]),
        paced_over: (!random.one_in(3)).then_some(lasts),
        heavy: random.one_in(4),
        consumers,
        transactions: random.one_in(2),
        churn: random.one_in(2),
        workers: Worker::choose(features, random),
    }
}

/// A site with all that is known of it.
struct Cycles {
    site: Site,
    truth: Truth,
    /// What a failure is to be repeated with.
    seed: u64,
    doing: String,
}

impl Cycles {
    fn new(site: Site, seed: u64) -> Self {
        Self {
            site,
            truth: Truth::default(),
            seed,
            doing: String::new(),
        }
    }

    /// One cycle: early ends, a restart with its checks, load, a crash.
    fn cycle(&mut self, number: usize, plan: &Plan) {
        let began = Instant::now();
        self.doing = format!("cycle {number}, {plan:?}");
        if plan.fresh {
            self.site.clear();
            self.truth = Truth::new(plan.features);
        }
        for lasts in &plan.early {
            let broker = Broker::start(&self.site.data_dir());
            let began = Instant::now();
            self.load_and_end(broker, &plan.load, began + *lasts, plan.crash);
        }
        let broker = self.restart(plan.drain);
        let checked = began.elapsed();
        self.load_and_end(broker, &plan.load, Instant::now() + plan.lasts, plan.crash);
        let (over, drain) = (began.elapsed(), plan.drain);
        eprintln!("cycle {number}: {drain:?}, checked after {checked:.1?}, over after {over:.1?}");
    }

    /// Starts a broker on what the last one left, and checks it.
    fn restart(&self, drain: Drain) -> Broker {
        self.site.keep_copy();
        let broker = Broker::start(&self.site.data_dir());
        if broker.log().address().is_some() {
            self.check(&broker, drain, &[]);
        } else {
            self.find("it does not listen".to_owned());
        }
        self.fail_if_found(broker.log());
        broker
    }

    /// Checks what a broker has. Queues with features are looked at first, when
    /// what waits is not due yet.
    fn check(&self, broker: &Broker, drain: Drain, exact: &[QueueIndex]) {
        let truth = &self.truth;
        let checked = || {
            let mix = match drain {
                Drain::Keep => None,
                Drain::Look | Drain::Take => mix::Drain::start(broker, truth)?,
            };
            drain::check(broker, truth, drain, exact)?;
            mix.map_or(Ok(()), |mix| mix.finish(truth))
        };
        if let Err(gone) = checked() {
            self.find(format!("checking: {gone}"));
        }
    }

    /// Works with a broker until that moment, then takes it away.
    fn load_and_end(&mut self, broker: Broker, load: &Load, until: Instant, crash: Crash) {
        let log = broker.log().clone();
        let Self { site, truth, .. } = self;
        let (ends, at) = std::thread::scope(|scope| {
            let clients = scope.spawn(|| load.run(&log, truth));
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            let at = site.crash(broker, crash);
            (clients.join().expect("clients do not panic"), at)
        });
        self.ended(ends, at, End::Crash(crash));
        self.fail_if_found(&log);
    }

    /// Notes that a broker ended, or began to, at that moment, and whether its
    /// clients saw anything else.
    fn ended(&self, ends: Vec<ClientEnd>, at: Instant, end: End) {
        for (ended, who, gone) in ends {
            let expected = match gone {
                Gone::Closed(_) => ended >= at,
                Gone::Silent(_) => false,
                Gone::Refused(ref text) => match end {
                    End::Stop => text.starts_with("320 "),
                    End::Crash(Crash::Kill) => false,
                    // Whoever cannot write says no.
                    End::Crash(Crash::DiskFirst(_)) => ended >= at,
                },
            };
            if !expected {
                self.find(format!("{who} ended: {gone}"));
            }
        }
        let crashed = end != End::Stop;
        self.truth.ended(at, crashed);
    }

    fn find(&self, finding: String) {
        self.truth.ledger.lock().expect("no panic").find(finding);
    }

    #[track_caller]
    fn fail_if_found(&self, log: &Log) {
        let mut ledger = self.truth.ledger.lock().expect("no panic");
        let mix_counts = self.truth.mix(|mix| {
            ledger.findings.extend(mix.findings());
            mix.counts
        });
        let findings = &ledger.findings;
        if findings.is_empty() {
            return;
        }
        let count = findings.len();
        let shown = findings[..count.min(FINDINGS_SHOWN)].join("\n");
        panic!(
            "LEVERET_CRASH_SEED={}, {}\n{:?}\n{mix_counts:?}\n{count} findings:\n{shown}\nthe broker's log:\n{}",
            self.seed,
            self.doing,
            ledger.counts,
            log.tail()
        );
    }

    /// The last restart, with everything taken, and a clean stop.
    fn finish(mut self) {
        self.doing = "the end".to_owned();
        self.restart(Drain::Take).stop();
        let ledger = self.truth.ledger.lock().expect("no panic");
        let mix_counts = self.truth.mix(|mix| mix.counts);
        eprintln!(
            "since the last fresh directory: {:?}, with features {mix_counts:?}",
            ledger.counts
        );
    }
}

fn alone() -> impl Drop {
    // Another test's failure is told by that test.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn nothing_is_lost_by_sigkill() {
    let _alone = alone();
    let seed = seed();
    let mut cycles = Cycles::new(Site::directory(), seed);
    for number in 0..count("LEVERET_CRASH_CYCLES", 50) {
        cycles.cycle(number, &Plan::new(seed, number));
    }
    cycles.finish();
}

#[test]
fn nothing_is_lost_by_a_power_cut() {
    let _alone = alone();
    let Some(disk) = Disk::new() else {
        return;
    };
    let seed = seed();
    let mut cycles = Cycles::new(Site::Disk(disk), seed);
    for number in 0..count("LEVERET_POWER_CUTS", 20) {
        cycles.cycle(number, &Plan::new(seed ^ 1 << 63, number));
    }
    cycles.finish();
}

/// Nothing is lost or returns, and who was never sent a message is not told so.
#[test]
fn a_clean_stop_under_load_forgets_nothing() {
    let _alone = alone();
    let seed = seed();
    let mut random = Random::new(&[seed]);
    let features = Features::choose(&mut random);
    let mut cycles = Cycles::new(Site::directory(), seed);
    cycles.truth = Truth::new(features);
    for number in 0..4u64 {
        cycles.doing = format!("stop {number}, {features:?}");
        let load = Load {
            seed: seed ^ number,
            messages_max: 300,
            paced_over: Some(STOP_AFTER),
            heavy: number == 1,
            consumers: vec![
                (0, Manner::AckEach),
                (2, Manner::AckMany(7)),
                (4, Manner::Requeue),
                (5, Manner::Hold),
            ],
            transactions: true,
            churn: true,
            workers: Worker::choose(&features, &mut random),
        };
        let broker = Broker::listening(&cycles.site.data_dir());
        let unread = if number % 2 == 0 {
            Drain::Keep
        } else {
            Drain::Take
        };
        cycles.check(&broker, unread, &[1, 3, 6, 8, 9]);
        cycles.fail_if_found(broker.log());
        cycles.stop_under_load(broker, &load);
    }
    cycles.finish();
}

impl Cycles {
    fn stop_under_load(&self, mut broker: Broker, load: &Load) {
        let log = broker.log().clone();
        let (ends, at, status) = std::thread::scope(|scope| {
            let clients = scope.spawn(|| load.run(&log, &self.truth));
            std::thread::sleep(STOP_AFTER);
            let at = Instant::now();
            broker.terminate();
            let status = broker.await_exit();
            (clients.join().expect("clients do not panic"), at, status)
        });
        self.ended(ends, at, End::Stop);
        if status.code() != Some(0) {
            self.find(format!("SIGTERM ended it with {status}"));
        }
        self.fail_if_found(&log);
    }
}
