//! The load bench: arriero beside nginx, HAProxy and a bare Pingora pass-through, interleaved in one run. `docs/benchmarks.md` tells how to read it.
//!
//! Everything is on 127.0.0.1 and on ports from the kernel. Nothing is asserted: figures of a shared machine prove nothing, ratios
//! inside one run tell much.
#![expect(clippy::print_stdout, reason = "its tables are for a terminal")]

mod contender;

mod measure;

mod passthrough;

mod process;

mod report;

mod streams;

mod wire;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arriero::demo::Node;
use tokio::signal::unix::{SignalKind, signal};

use contender::{ALL, Contender, Running};
use measure::{MODEL, latency, throughput};
use report::Tally;
use streams::{Pace, streams};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Connections that send as fast as they are answered.
const BUSY_CONNECTIONS: usize = 32;
/// One request per millisecond, the finest that the timer does: far from saturation for every contender.
const CALM_GAP: Duration = Duration::from_millis(1);
const CALM_CONNECTIONS: u32 = 16;
/// Files that the bench or a contender has open besides its two per stream.
const SPARE_FILES: usize = 300;
const NODES: usize = 3;
/// Slots of a node, so many that nothing waits there.
const SLOTS: usize = 100_000;

/// How much is measured.
struct Plan {
    rounds: usize,
    busy: Duration,
    calm: Duration,
    stream_rounds: usize,
    pace: Pace,
}

const USAGE: &str = "cargo bench --bench load [-- --quick]";

fn main() -> Result<()> {
    let args = std::env::args().skip(1);
    // Cargo adds `--bench`.
    let args: Vec<String> = args.filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let plan = match args[..] {
        ["passthrough", listen, node] => return passthrough::serve(listen, node),
        [] => Plan::full()?,
        ["--quick"] => Plan::quick()?,
        _ => return Err(format!("unknown arguments; usage: {USAGE}").into()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let dir = Scratch::new()?;
    runtime.block_on(async {
        // Dropping the bench ends the contenders; dying of the signal would leave them behind.
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = bench(&plan, &dir.0) => ended,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminated.recv() => Err("terminated".into()),
        }
    })
}

impl Plan {
    /// Under 90 s.
    fn full() -> Result<Plan> {
        Ok(Plan {
            rounds: 7,
            busy: Duration::from_millis(400),
            calm: Duration::from_millis(400),
            stream_rounds: 3,
            pace: Pace::new(streams_possible(1000)?, Duration::from_millis(1000)),
        })
    }

    /// Under 20 s.
    fn quick() -> Result<Plan> {
        Ok(Plan {
            rounds: 2,
            busy: Duration::from_millis(200),
            calm: Duration::from_millis(200),
            stream_rounds: 1,
            pace: Pace::new(streams_possible(200)?, Duration::from_millis(300)),
        })
    }
}

/// As many as wanted, or as the limit on open files allows.
fn streams_possible(wanted: usize) -> Result<usize> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or("1024");
    let possible = match soft.parse::<usize>() {
        Ok(files) => wanted.min(files.saturating_sub(SPARE_FILES) / 2),
        Err(_) => wanted,
    };
    if possible < wanted {
        println!(
            "{possible} streams instead of {wanted}: `ulimit -n {}` allows all",
            SPARE_FILES + 2 * wanted
        );
    }
    Ok(possible)
}

/// A folder for the contenders' files, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let name = format!("load-{}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&dir)?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in the target folder, where it harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One contender at work: once in front of nodes that answer at once, once in front of nodes with the pace of a GPU.
struct Entrant {
    quick: Running,
    paced: Running,
    tally: Tally,
    /// It failed and is not asked again.
    is_out: bool,
}

async fn bench(plan: &Plan, dir: &Path) -> Result<()> {
    let started = Instant::now();
    let quick = nodes(Duration::ZERO, 4).await?;
    let paced = nodes(plan.pace.token_delay, plan.pace.tokens).await?;
    let addrs = |nodes: &[Node]| nodes.iter().map(Node::addr).collect::<Vec<_>>();
    let mut field = field(&addrs(&quick), &addrs(&paced), dir).await;
    for round in 0..plan.rounds {
        for entrant in in_turn(&mut field, round) {
            let result = entrant.requests(plan).await;
            entrant.judge(result);
        }
    }
    for round in 0..plan.stream_rounds {
        for entrant in in_turn(&mut field, round) {
            let result = entrant.streams(plan).await;
            entrant.judge(result);
        }
    }
    println!(
        "\n{} rounds of {BUSY_CONNECTIONS} busy connections and of {}/s, {} rounds of {} streams, in {:.0} s",
        plan.rounds,
        1000 / CALM_GAP.as_millis(),
        plan.stream_rounds,
        plan.pace.streams,
        started.elapsed().as_secs_f64()
    );
    report::print(
        &field
            .into_iter()
            .map(|entrant| entrant.tally)
            .collect::<Vec<_>>(),
    );
    Ok(())
}

async fn nodes(token_delay: Duration, tokens: usize) -> Result<Vec<Node>> {
    let mut nodes = Vec::with_capacity(NODES);
    for _ in 0..NODES {
        let node = Node::builder()
            .loaded(MODEL)
            .slots(SLOTS)
            .tokens(tokens)
            .token_delay(token_delay);
        nodes.push(node.start().await?);
    }
    Ok(nodes)
}

/// Everyone who can be started.
async fn field(quick: &[SocketAddr], paced: &[SocketAddr], dir: &Path) -> Vec<Entrant> {
    let mut field = Vec::with_capacity(ALL.len());
    for (place, contender) in ALL.into_iter().enumerate() {
        let dir = dir.join(place.to_string());
        match Entrant::start(contender, quick, paced, &dir).await {
            Ok(entrant) => field.push(entrant),
            Err(why) => println!("{} is skipped: {why}", contender.label()),
        }
    }
    field
}

/// Each round begins with another contender, so that nobody always runs after the same neighbour.
fn in_turn(field: &mut [Entrant], round: usize) -> impl Iterator<Item = &mut Entrant> {
    let first = round % field.len().max(1);
    let (head, tail) = field.split_at_mut(first);
    tail.iter_mut()
        .chain(head)
        .filter(|entrant| !entrant.is_out)
}

impl Entrant {
    async fn start(
        contender: Contender,
        quick: &[SocketAddr],
        paced: &[SocketAddr],
        dir: &Path,
    ) -> Result<Entrant> {
        let quick = contender.start(quick, &dir.join("quick")).await?;
        let paced = contender.start(paced, &dir.join("paced")).await?;
        let idle_rss = paced.process.as_ref().map(|p| p.rss()).transpose()?;
        Ok(Entrant {
            quick,
            paced,
            tally: Tally {
                contender,
                throughput: Vec::new(),
                latency: Vec::new(),
                streams: Vec::new(),
                idle_rss,
            },
            is_out: false,
        })
    }

    async fn requests(&mut self, plan: &Plan) -> Result<()> {
        let busy = throughput(&self.quick, BUSY_CONNECTIONS, plan.busy).await?;
        let calm = latency(&self.quick, CALM_CONNECTIONS, CALM_GAP, plan.calm).await?;
        self.tally.throughput.push(busy);
        self.tally.latency.push(calm);
        Ok(())
    }

    async fn streams(&mut self, plan: &Plan) -> Result<()> {
        let slice = streams(&self.paced, plan.pace).await?;
        self.tally.streams.push(slice);
        Ok(())
    }

    fn judge(&mut self, result: Result<()>) {
        if let Err(why) = result {
            println!("{} is out: {why}", self.tally.contender.label());
            self.is_out = true;
        }
    }
}
