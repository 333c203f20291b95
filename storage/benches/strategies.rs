//! What a commit costs, by strategy, driver and batches in flight: the store as it is in service, on a real disk.
//!
//! Estimate first: a durable commit is a write and a flush of the device, so 1.8 to 2.5 times `none` (which is the floor: the
//! same write and no flush), and less where the device has FUA. `dsync` and `o_dsync` have one completion and no worker
//! thread in between, so half the CPU of `linked` and `two_step`. More batches in flight help only where the device takes
//! several at once and clients keep coming; they make batches smaller.
//!
//! `cargo bench -p ringkeeper-storage --bench strategies -- [--dir DIR] [--millis N] [--rounds N] [--strategies a,b]
//! [--drivers inline,thread,syscalls] [--in-flight 1,2,4]`
//!
//! Two kinds of load, both of 200-byte records. Clients are closed loops: each has one record on its way, and the next when
//! that is durable; they march in step, so there is one batch at a time. Arrivals at a fixed pace wait for nobody: here more
//! batches in flight can tell, and latency counts from the moment a record was due. Rounds go through all combinations in
//! turn, so that what disturbs the machine disturbs all of them; the columns are over all rounds. CPU is the whole process,
//! kernel workers of the ring included, and what the kernel's own work queues do is not; arrivals are waited for by spinning.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringkeeper_storage::{DiskDriver, DriverKind, LogStrategy, Store, StoreConfig, StoreEvent, Zxid, open};
use rustix::time::{ClockId, clock_gettime};

const RECORD: [u8; 200] = [7; 200];
const LOADS: [Load; 4] =
    [Load::Clients(1), Load::Clients(256), Load::Arrivals { a_second: 20_000 }, Load::Arrivals { a_second: 100_000 }];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Clients(usize),
    Arrivals { a_second: u64 },
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Load::Clients(1) => write!(f, "1 client"),
            Load::Clients(clients) => write!(f, "{clients} clients"),
            Load::Arrivals { a_second } => write!(f, "{a_second} arrivals a second"),
        }
    }
}

struct Options {
    directory: PathBuf,
    window: Duration,
    rounds: usize,
    strategies: Vec<LogStrategy>,
    drivers: Vec<DriverKind>,
    in_flight: Vec<usize>,
}

impl Options {
    fn from_arguments() -> Options {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let given = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{name} wants a value")).clone())
        };
        let list = |name: &str, default: &str| -> Vec<String> {
            given(name).unwrap_or(default.to_owned()).split(',').map(str::to_owned).collect()
        };
        let number = |name: &str| given(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")));
        let for_real = arguments.iter().any(|argument| argument == "--bench"); // else cargo test: does it still run?
        let driver = |name: &String| match name.as_str() {
            "inline" => DriverKind::RingInline,
            "thread" => DriverKind::RingThread,
            "syscalls" => DriverKind::Syscalls,
            _ => panic!("--drivers: {name}; write inline, thread or syscalls"),
        };
        let strategy = |name: &String| LogStrategy::parse(name).unwrap_or_else(|| panic!("--strategies: {name}"));
        Options {
            directory: given("--dir").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from),
            window: Duration::from_millis(number("--millis").unwrap_or(if for_real { 500 } else { 3 })),
            rounds: number("--rounds").unwrap_or(if for_real { 3 } else { 1 }) as usize,
            strategies: list("--strategies", "dsync,linked,o_dsync,two_step,buffered,none")
                .iter()
                .map(strategy)
                .collect(),
            drivers: list("--drivers", "inline,thread,syscalls").iter().map(driver).collect(),
            in_flight: list("--in-flight", "1,2,4").iter().map(|text| text.parse().expect("--in-flight")).collect(),
        }
    }
}

#[derive(Clone, Copy)]
struct Combination {
    strategy: LogStrategy,
    driver: DriverKind,
    in_flight: usize,
    load: Load,
}

struct Figures {
    latency_ns: Histogram<u64>,
    records: u64,
    batches: u64,
    elapsed: Duration,
    cpu: Duration,
}

impl Figures {
    fn new() -> Figures {
        let latency_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds");
        Figures { latency_ns, records: 0, batches: 0, elapsed: Duration::ZERO, cpu: Duration::ZERO }
    }
}

fn main() {
    let options = Options::from_arguments();
    let mut combinations: Vec<(Combination, Figures)> = Vec::new();
    for load in LOADS {
        for &strategy in &options.strategies {
            for &driver in &options.drivers {
                for &in_flight in &options.in_flight {
                    // Clients in step have one batch on its way, whatever is allowed.
                    if in_flight == options.in_flight[0] || matches!(load, Load::Arrivals { .. }) {
                        let combination = Combination { strategy, driver, in_flight, load };
                        combinations.push((combination, Figures::new()));
                    }
                }
            }
        }
    }
    print_host(&options);
    for _ in 0..options.rounds {
        for (combination, figures) in &mut combinations {
            measure(*combination, &options, figures);
        }
    }
    for load in LOADS {
        println!("\n{load}\n");
        println!(
            "| strategy | driver | in flight | p50 us | p99 us | p99.9 us | records/s | batches/s | CPU us/batch |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (combination, figures) in combinations.iter().filter(|(combination, _)| combination.load == load) {
            print_row(*combination, figures);
        }
    }
}

fn print_host(options: &Options) {
    let facts = in_directory(&options.directory, |directory| {
        open(StoreConfig::new(directory, directory)).expect("a store").facts().log.clone()
    });
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    println!("disk: {}", facts.describe());
    println!("host: Linux {}, {cpus} CPUs, load {}", line("/proc/sys/kernel/osrelease"), line("/proc/loadavg"));
    println!("{} rounds of {} ms a row", options.rounds, options.window.as_millis());
}

fn print_row(combination: Combination, figures: &Figures) {
    let Combination { strategy, driver, in_flight, .. } = combination;
    let us = |quantile| figures.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
    let a_second = |count: u64| count as f64 / figures.elapsed.as_secs_f64();
    let driver = match driver {
        DriverKind::RingInline => "ring inline",
        DriverKind::RingThread => "ring thread",
        DriverKind::Syscalls => "syscalls",
    };
    println!(
        "| {} | {driver} | {in_flight} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
        strategy.name(),
        us(0.5),
        us(0.99),
        us(0.999),
        a_second(figures.records),
        a_second(figures.batches),
        figures.cpu.as_secs_f64() * 1e6 / figures.batches.max(1) as f64
    );
}

/// One window on a fresh log.
fn measure(combination: Combination, options: &Options, figures: &mut Figures) {
    in_directory(&options.directory, |directory| {
        let Combination { strategy, driver, in_flight, load } = combination;
        let segment_bytes = if options.window < Duration::from_millis(50) { 4 << 20 } else { 64 << 20 };
        let config = StoreConfig {
            strategy,
            batches_in_flight: in_flight,
            segment_bytes,
            ..StoreConfig::new(directory, directory)
        };
        let store = open(config).expect("a fresh directory").into_store().expect("a store");
        let driver = DiskDriver::new(driver, &[]).expect("a driver");
        let mut bench = Bench { store, driver, zxid: 0, waiting: VecDeque::new() };
        // The segment after the first one is prepared now and not in the window.
        while !bench.store.is_idle() {
            bench.turn(true, &mut Figures::new());
        }
        // Page cache, workers of the kernel, registered memory: the first commits pay for what the others use.
        bench.run(load, options.window / 5, &mut Figures::new());
        let (started, cpu_before, batches_before) = (Instant::now(), cpu(), bench.store.stats().batches);
        bench.run(load, options.window, figures);
        figures.elapsed += started.elapsed();
        figures.cpu += cpu() - cpu_before;
        figures.batches += bench.store.stats().batches - batches_before;
    });
}

struct Bench {
    store: Store,
    driver: DiskDriver,
    zxid: u64,
    /// When each record was appended that is not durable, in order.
    waiting: VecDeque<(Zxid, Instant)>,
}

impl Bench {
    fn run(&mut self, load: Load, window: Duration, figures: &mut Figures) {
        match load {
            Load::Clients(clients) => self.run_clients(clients, window, figures),
            Load::Arrivals { a_second } => self.run_arrivals(a_second, window, figures),
        }
    }

    fn run_clients(&mut self, clients: usize, window: Duration, figures: &mut Figures) {
        let started = Instant::now();
        (0..clients).for_each(|_| self.send(started));
        while !self.waiting.is_empty() {
            let done = self.turn(true, figures);
            let now = Instant::now();
            if now - started < window {
                (0..done).for_each(|_| self.send(now));
            }
        }
    }

    fn run_arrivals(&mut self, a_second: u64, window: Duration, figures: &mut Figures) {
        let started = Instant::now();
        let between = Duration::from_secs(1) / a_second as u32;
        let mut due = Duration::ZERO;
        while due < window || !self.waiting.is_empty() {
            let now = started.elapsed().min(window);
            while due < now {
                self.send(started + due);
                due += between;
            }
            self.turn(false, figures);
        }
    }

    fn send(&mut self, due: Instant) {
        self.zxid += 1;
        self.store.append(Zxid(self.zxid), &RECORD);
        self.waiting.push_back((Zxid(self.zxid), due));
    }

    /// Starts what there is to start and takes what has completed. Returns how many records became durable.
    fn turn(&mut self, wait: bool, figures: &mut Figures) -> usize {
        let Bench { store, driver, waiting, .. } = self;
        let (mut ops, mut events, mut out) = (Vec::new(), Vec::new(), Vec::new());
        store.poll_ops(&mut ops);
        driver.submit(&mut ops);
        while driver.completions(&mut events).expect("a disk") == 0 && wait && driver.in_flight() > 0 {
            driver.wait();
        }
        events.into_iter().for_each(|event| store.on_event(event, &mut out));
        let mut done = 0;
        for event in out {
            match event {
                StoreEvent::Durable(through) => {
                    let now = Instant::now();
                    while let Some((_, due)) = waiting.pop_front_if(|(zxid, _)| *zxid <= through) {
                        figures.latency_ns.saturating_record((now - due).as_nanos() as u64);
                        done += 1;
                    }
                }
                StoreEvent::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        figures.records += done as u64;
        done
    }
}

/// With a directory that is gone afterwards.
fn in_directory<T>(parent: &Path, f: impl FnOnce(&Path) -> T) -> T {
    let directory = tempfile::tempdir_in(parent).expect("a directory to measure in");
    f(directory.path())
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
