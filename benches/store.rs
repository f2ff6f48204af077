//! The message log on a real disk, in messages of 1 KiB: what an append costs
//! its caller, group commits, reading pages, and starting again.
//!
//! Files are in the target directory: what a sync costs is that disk's.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret::model::{
    BlockBuilder, Body, Fsync, Message, Page, PageTag, QueueId, Sequence, SequenceRange, Ticket,
    Traits, Verdict,
};
use leveret::store::{
    Disk, Opened, PageOutJob, RecoveredContent, Run, Settled, Store, StoreSettings,
};

const QUEUE: QueueId = QueueId(1);
const BODY_BYTES: usize = 1024;
/// Messages that wait when a store is started again.
const WAITING: u64 = 50_000;
/// Messages of a page: half a megabyte.
const PAGE: usize = 500;

struct Bench {
    store: Store,
    next: u64,
    _directory: tempfile::TempDir,
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn open(directory: &tempfile::TempDir, fsync: Fsync) -> Opened {
    let files = Disk::open(directory.path()).expect("the directory is ours");
    let settings = StoreSettings {
        fsync,
        ..StoreSettings::default()
    };
    Store::open(Arc::new(files), &settings, &[QUEUE], Box::new(|| {})).expect("it opens")
}

/// Messages as reads bring them: several in a block.
fn messages(count: usize) -> Vec<Message> {
    let mut messages = Vec::with_capacity(count);
    let mut builder = BlockBuilder::default();
    while messages.len() < count {
        builder.push(
            b"\0\x01q",
            &[0; 14],
            Body::Slice(&[7; BODY_BYTES]),
            Traits::new(true),
        );
        let pushed = messages.len() + 1;
        if builder.is_full() || pushed == count || pushed % 16 == 0 {
            let block = Arc::new(builder.finish());
            let all = 0..block.len() as u32;
            messages.extend(all.map(|index| Message::new(Arc::clone(&block), index)));
        }
    }
    messages.truncate(count);
    messages
}

impl Bench {
    fn new(fsync: Fsync) -> Self {
        let directory = directory();
        Self {
            store: open(&directory, fsync).store,
            next: 0,
            _directory: directory,
        }
    }

    fn append(&mut self, messages: &[Message]) -> Ticket {
        let run = Run {
            queue: QUEUE,
            first: Sequence(self.next),
            message: 0,
            count: messages.len() as u32,
        };
        self.next += messages.len() as u64;
        self.store.append(&[], &[run], messages)
    }

    /// So that the log's files are used again.
    fn settle(&self, count: usize) {
        let first = Sequence(self.next - count as u64);
        let range = SequenceRange::new(first, count as u64);
        let queue = QUEUE;
        self.store.settle(&[Settled { queue, range }], &[]);
    }

    fn wait(&self, ticket: Ticket) {
        loop {
            match self.store.progress().verdict(ticket) {
                Verdict::Stored => return,
                Verdict::Failed => panic!("the disk is full or broken"),
                Verdict::Pending => std::thread::yield_now(),
            }
        }
    }

    fn page_out(&self, first: u64, messages: &[Message]) -> Page {
        let places = (first..).map(Sequence);
        let messages: Vec<_> = places.zip(messages.iter().cloned()).collect();
        let (done, written) = mpsc::channel();
        self.store.page_out(PageOutJob {
            queue: QUEUE,
            durable: true,
            first: Sequence(first),
            tag: PageTag::default(),
            messages: Box::new(messages),
            done: Box::new(move |page| done.send(page).expect("it is waited for")),
        });
        let written = written.recv().expect("the pager is alive");
        written.expect("there is room")
    }
}

fn appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/append");
    let batch = messages(100);
    group.throughput(Throughput::Elements(batch.len() as u64));
    group.bench_function("100", |bencher| {
        let mut bench = Bench::new(Fsync::Never);
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let start = Instant::now();
                let ticket = bench.append(&batch);
                took += start.elapsed();
                bench.settle(batch.len());
                if bench.store.is_behind() {
                    bench.wait(ticket);
                }
            }
            took
        });
    });
    group.finish();
}

fn commits(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/commit");
    group.sample_size(20);
    for count in [1, 100, 10_000] {
        let batch = messages(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(count), &batch, |bencher, _| {
            let mut bench = Bench::new(Fsync::Always);
            bencher.iter(|| {
                let ticket = bench.append(&batch);
                bench.wait(ticket);
                bench.settle(count);
            });
        });
    }
    group.finish();
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/read");
    let bench = Bench::new(Fsync::Always);
    let batch = messages(PAGE);
    let pages: Vec<Page> = (0..40)
        .map(|number| bench.page_out(number * PAGE as u64, &batch))
        .collect();
    group.throughput(Throughput::Elements(PAGE as u64));
    let mut turn = pages.iter().cycle();
    group.bench_function("page", |bencher| {
        bencher.iter(|| {
            let page = turn.next().expect("they go round");
            let content = bench.store.read_page(*page);
            assert_eq!(content.messages.len(), PAGE);
        });
    });
    group.finish();
}

/// A start with messages that wait, in the log or in pages.
fn starts(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/start");
    group.sample_size(10);
    group.throughput(Throughput::Elements(WAITING));
    for paged in [false, true] {
        let mut bench = Bench::new(Fsync::Always);
        let batch = messages(PAGE);
        while bench.next < WAITING {
            let first = bench.next;
            let ticket = bench.append(&batch);
            if paged {
                bench.page_out(first, &batch);
            }
            bench.wait(ticket);
        }
        let Bench {
            store, _directory, ..
        } = bench;
        store.close();
        drop(store);
        let name = if paged { "pages" } else { "log" };
        group.bench_function(name, |bencher| {
            bencher.iter_with_large_drop(|| {
                let opened = open(&_directory, Fsync::Always);
                let runs = &opened.queues[0].runs;
                let waiting: u64 = runs.iter().map(|run| run.count).sum();
                assert_eq!(waiting, WAITING);
                let is_paged = |run: &leveret::store::RecoveredRun| {
                    matches!(run.content, RecoveredContent::Paged(_))
                };
                assert!(runs.iter().all(|run| is_paged(run) == paged));
                opened.store.close();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, appends, commits, reads, starts);
criterion_main!(benches);
